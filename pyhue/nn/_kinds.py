"""Calls of a kind that was checked before: for few rows the checks in Python take longer than the loss."""

from typing import Any

import torch
from torch import Tensor

from pyhue.nn._autograd import transforms_active
from pyhue.nn._options import Options

MOST = 256  # kinds; a training loop has a few
_seen: dict[tuple[Any, ...], Options] = {}


def kind_of(
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    scalars: tuple[Any, ...],
) -> tuple[Any, ...] | None:
    """All that the checks and the choice of outputs look at; None where more may matter than tensors tell."""
    if torch.compiler.is_compiling() or transforms_active():
        return None
    if type(input) is not Tensor or type(hue) is not Tensor:
        return None
    if type(target) is not Tensor or type(labels) is not Tensor:
        return None
    of_weight = None
    if weight is not None:
        if type(weight) is not Tensor:
            return None
        of_weight = weight.shape, weight.dtype, weight.device, weight.requires_grad
    # fmt: off
    return (
        input.shape, hue.shape, target.shape, labels.shape,
        input.dtype, hue.dtype, target.dtype, labels.dtype,
        input.device, hue.device, target.device, labels.device,
        input.requires_grad, hue.requires_grad, target.requires_grad, labels.requires_grad,
        of_weight, torch.is_grad_enabled(), scalars,
    )
    # fmt: on


def options_of(kind: tuple[Any, ...] | None) -> Options | None:
    """The options of a kind that was remembered."""
    if kind is None:
        return None
    try:
        return _seen.get(kind)
    except TypeError:  # an argument that has no hash, which its check will name
        return None


def remember(
    kind: tuple[Any, ...] | None,
    options: Options,
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: Tensor | None,
) -> None:
    """Keep the options of a call that passed its checks, if its tensors need no conversion."""
    real = input.dtype
    if kind is None or input.dim() != 2 or real not in (torch.float32, torch.float64):
        return
    if hue.dtype != real or labels.dtype != real or target.dtype not in (real, torch.int64):
        return
    if weight is not None and weight.dtype != real:
        return
    if len(_seen) >= MOST:
        _seen.clear()
    _seen[kind] = options
