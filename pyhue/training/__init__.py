"""Training of image classifiers with and without the hue loss, and the comparison of runs.

    config -> data (images, folds) -> fold (one training, resumable) -> results -> report, compare

The modules here, and what each holds: `data` the images in memory and their folds; `augment` flips and crops;
`model` the network and its loss; `workers` the processes of `torchrun`; `checkpoint` the state on disk;
`events` what TensorBoard shows; `fold` one training; `run` all trainings of a run; `report` and `compare`,
with `compare_rows` and the plots of both, what is written about it; `statistics` intervals and tests. Options
and results, which `pyhue.backbones` reads too, are in `pyhue._runs`.
"""
