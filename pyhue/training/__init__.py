"""Training of image classifiers with and without the hue loss, and the comparison of runs.

    config -> data (images, folds) -> fold (one training, resumable) -> results -> report, compare

The modules here, and what each holds: `config` the options; `data` the images in memory and their folds;
`augment` flips and crops; `model` the network and its loss; `workers` the processes of `torchrun`;
`checkpoint` the state on disk; `fold` one training; `run` all trainings of a run; `results` what a run folder
says; `report` and `compare` what is written about it.
"""
