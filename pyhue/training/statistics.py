"""Intervals and paired tests of accuracies over folds and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean, and how far from it the true one may be."""

    mean: float
    margin: float  #: half the width of the 95 % interval of Student's t; NaN for fewer than 2 values
    p_value: float  #: of the two-sided test that the true mean is 0; NaN for fewer than 2 values


def estimate(values: Sequence[float], overlap: float = 0.0) -> Estimate:
    """The mean of values, with its interval and test by Student's t.

    The variance of the mean of J values is (1 / J + overlap) s^2. With overlap 0 this is the t test, paired
    when the values are differences of pairs. It takes the values for independent, which folds are not: any
    two train on images in common, so the test finds differences too often. The correction of Nadeau and
    Bengio (Inference for the Generalization Error, Machine Learning 52, 2003; for repeated cross-validation
    Bouckaert and Frank, PAKDD 2004) sets `overlap` to the number of test images over that of training images.

    Args:
        values: accuracies, or differences of accuracies.
        overlap: as above.

    Example:
        >>> estimate([0.1, 0.2, 0.3])
        Estimate(mean=0.2..., margin=0.248..., p_value=0.074...)
    """
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    if count < 2:
        return Estimate(mean, math.nan, math.nan)
    error = math.sqrt(1 / count + overlap) * float(np.std(values, ddof=1))
    margin = float(stats.t.ppf(0.975, count - 1)) * error
    if error == 0:
        return Estimate(mean, 0.0, 1.0 if mean == 0 else 0.0)
    return Estimate(mean, margin, float(2 * stats.t.sf(abs(mean) / error, count - 1)))
