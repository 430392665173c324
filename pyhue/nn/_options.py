"""The arguments that are no tensors, checked once and as the operators take them."""

import math
from typing import NamedTuple

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


class Options(NamedTuple):
    """The last arguments of ``torch.ops.pyhue.hue_cross_entropy``."""

    hue_weight: float
    hue_scale: float
    ignore_index: int
    reduction: int
    label_smoothing: float
    gradients: bool
    label_gradient: bool


def checked_options(
    classes: int,
    hue_weight: float,
    hue_scale: float | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    gradients: bool,
    label_gradient: bool,
) -> Options:
    """Make the options of so many classes; without reduction gradients wait for the backward.

    Raises:
        ValueError: an option is not one of those, or out of bounds; it says which.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' or 'sum'")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if hue_scale is None:
        hue_scale = 1 / (2 * classes)
    elif not 0.0 <= hue_scale < math.inf:
        raise ValueError(f"hue_scale: expected a finite number of at least 0, got {hue_scale}")
    gradients = gradients and reduction != "none"
    return Options(
        hue_weight, hue_scale, ignore_index, REDUCTIONS[reduction], label_smoothing, gradients, label_gradient
    )
