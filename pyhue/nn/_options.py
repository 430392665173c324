"""The arguments that are no tensors, checked once and as the operators take them."""

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

from pyhue import _core

REDUCTIONS = _core.reductions
# Bits of `outputs`: what the operator gives after the loss, in this order: gradients of input and hue, of
# labels, of probabilities; of each row its log-sum-exp, and whether its largest logit is the target's.
GRADIENTS, LABEL_GRADIENT, TARGET_GRADIENT, LSE, CORRECT = _core.hue_outputs


class Options(NamedTuple):
    """The last arguments of ``torch.ops.pyhue.hue_cross_entropy``."""

    hue_weight: float
    hue_scale: float
    ignore_index: int
    reduction: int
    label_smoothing: float
    lse_square_scale: float
    softcap: float  # 0: none
    outputs: int


def finite_number(name: str, value: Any, least: float = -math.inf) -> None:
    """Raise TypeError or ValueError unless it is a finite number of at least `least`."""
    # A tensor is none, which could require a gradient.
    if type(value) is not float and not isinstance(value, Real):  # the first is 5 times as fast
        raise TypeError(f"{name}: expected a number{_bound(least)}, got {value!r}")
    number: Any = value  # compared, not asked by math.isfinite, which torch.compile cannot trace
    if not (number >= least and -math.inf < number < math.inf):
        raise ValueError(f"{name}: expected a finite number{_bound(least)}, got {value}")


def _bound(least: float) -> str:
    return "" if least == -math.inf else f" of at least {least}"


def positive_integer(name: str, value: Any) -> None:
    """Raise TypeError or ValueError unless it is an integer of at least 1."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")


def checked_options(
    classes: int,
    hue_weight: float,
    hue_scale: float | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    lse_square_scale: float,
    softcap: float | None,
    outputs: int,
) -> Options:
    """Make the options of so many classes.

    Raises:
        TypeError, ValueError: an option is not one of those, or out of bounds; it says which.
    """
    finite_number("hue_weight", hue_weight)
    finite_number("label_smoothing", label_smoothing)
    if type(ignore_index) is not int and not isinstance(ignore_index, Integral):
        raise TypeError(f"ignore_index: expected an integer, got {ignore_index!r}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' or 'sum'")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if hue_scale is None:
        hue_scale = 1 / (2 * classes)
    else:
        finite_number("hue_scale", hue_scale, least=0)
    finite_number("lse_square_scale", lse_square_scale, least=0)
    if softcap is None:
        softcap = 0.0
    else:
        finite_number("softcap", softcap, least=0)
        if not softcap > 0:
            raise ValueError(f"softcap: expected a number above 0, or None, got {softcap}")
    return Options(
        hue_weight,
        hue_scale,
        ignore_index,
        REDUCTIONS[reduction],
        label_smoothing,
        lse_square_scale,
        softcap,
        outputs,
    )
