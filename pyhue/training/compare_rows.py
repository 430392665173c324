"""The runs of a comparison as numbers: each beside the first, on the trainings that both have."""

from __future__ import annotations

import math
from typing import NamedTuple

from pyhue._runs.results import Run
from pyhue._text import printable
from pyhue.training.statistics import estimate


class Row(NamedTuple):
    """One run beside the first; accuracies from 0 to 1, NaN where there are too few values."""

    run: str
    trainings: int
    accuracy: float
    margin: float  #: half of the 95 % interval over folds and seeds
    pairs: int  #: seeds and folds that the first run has too
    difference: float  #: accuracy minus that of the first run, mean over pairs
    p_value: float  #: paired t test
    corrected_margin: float  #: half of the 95 % interval of the difference, corrected for overlapping folds
    corrected_p_value: float  #: corrected resampled t test
    epochs: int
    steps: int  #: of the optimiser in one training, mean
    parameters: int
    seconds: float  #: of one training, mean


def check_pairs(first: Run, run: Run) -> None:
    """Raises ValueError unless the runs have trainings in common, and those used the same images."""
    names = f"{printable(run.folder)} and {printable(first.folder)}"
    both = first.results.keys() & run.results.keys()
    if not both:
        raise ValueError(f"{names} have no seed and fold in common")
    for seed, fold in sorted(both):
        a, b = first.results[seed, fold], run.results[seed, fold]
        if (a.fingerprint, a.measured_on) != (b.fingerprint, b.measured_on):
            raise ValueError(
                f"{names} cannot be paired: in seed {seed}, fold {fold} they do not "
                "train and measure on the same images"
            )


def row_of(name: str, first: Run, run: Run) -> Row:
    """The numbers of a run with a result."""
    results = list(run.results.values())
    accuracy = estimate([result.accuracy for result in results])
    both = sorted(first.results.keys() & run.results.keys()) if run is not first else []
    differences = [run.results[key].accuracy - first.results[key].accuracy for key in both]
    plain, corrected = estimate(differences), estimate(differences, overlap(run))
    return Row(
        name,
        len(results),
        accuracy.mean,
        accuracy.margin,
        len(both),
        plain.mean,
        plain.p_value,
        corrected.margin,
        corrected.p_value,
        results[0].epochs,
        round(math.fsum(result.steps for result in results) / len(results)),
        results[0].parameters,
        round(math.fsum(result.seconds for result in results) / len(results), 1),
    )


def overlap(run: Run) -> float:
    """Test images over training images of a cross-validation; 0 for data that are divided once.

    Divided once, the trainings differ in their seed only and are independent: an interval then says how much
    chance in training matters, nothing about other images.
    """
    results = list(run.results.values())
    if len({result.fingerprint for result in results}) == 1:
        return 0.0
    return math.fsum(result.images / result.train_images for result in results) / len(results)
