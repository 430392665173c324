"""Checks of arguments, at the boundary; the kernels trust what passes here."""

import math

import torch
from torch import Tensor

_FLOATING = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))


def check_hue_cross_entropy(
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    hue_scale: float | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> None:
    """Raise TypeError or ValueError, naming the argument, unless the arguments fit together."""
    if input.dtype not in _FLOATING:
        raise TypeError(f"input: expected float32, float64, bfloat16 or float16, got {input.dtype}")
    if input.dim() == 0:
        raise ValueError("input: expected shape (C,), (N, C) or (N, C, d1, ..., dk), got a scalar")
    _check_devices(input, hue=hue, target=target, labels=labels, weight=weight)
    class_dim = 0 if input.dim() == 1 else 1
    classes = input.shape[class_dim]
    batch, extra = input.shape[:class_dim], input.shape[class_dim + 1 :]
    if classes == 0:
        raise ValueError("input: expected at least 1 class, got 0")
    if hue.dim() > input.dim():
        _check_floating("hue (of every class, as its dimensions say)", hue, (*batch, classes, 2, *extra))
    else:
        _check_floating("hue", hue, (*batch, 2, *extra))
    _check_floating("labels", labels, (classes, 2))
    if weight is not None:
        _check_floating("weight", weight, (classes,))
    if target.dim() == input.dim():
        _check_floating("target (class probabilities, as its shape says)", target, input.shape)
        if ignore_index >= 0:
            raise ValueError(
                f"ignore_index is not supported for floating point target, got ignore_index={ignore_index}"
            )
    elif target.dtype != torch.int64:
        raise TypeError(f"target: expected int64 classes, got {target.dtype}")
    elif target.shape != (*batch, *extra):
        raise ValueError(
            f"target: expected shape {(*batch, *extra)} for input {tuple(input.shape)}, "
            f"got {tuple(target.shape)}"
        )
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if hue_scale is not None and not 0.0 <= hue_scale < math.inf:
        raise ValueError(f"hue_scale: expected a finite number of at least 0, got {hue_scale}")


def _check_devices(input: Tensor, **others: Tensor | None) -> None:
    for name, tensor in others.items():
        if tensor is not None and tensor.device != input.device:
            raise ValueError(f"{name}: expected {input.device} as input is on, got {tensor.device}")


def _check_floating(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.dtype not in _FLOATING:
        raise TypeError(f"{name}: expected float32, float64, bfloat16 or float16, got {tensor.dtype}")
    if tensor.shape != shape:
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")


def check_linear_hue_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor,
    hue_linear_weight: Tensor,
    hue_linear_bias: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    reduction: str,
) -> None:
    """Raise TypeError or ValueError, naming the argument, unless the arguments fit together."""
    if input.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"input: expected float32 or float64, got {input.dtype}")
    if input.dim() != 2 or linear_weight.dim() != 2:
        raise ValueError(
            f"input, linear_weight: expected shapes (N, F) and (C, F), "
            f"got {tuple(input.shape)} and {tuple(linear_weight.shape)}"
        )
    _check_devices(input, linear_weight=linear_weight, target=target, labels=labels, weight=weight)
    (rows, features), classes = input.shape, len(linear_weight)
    expected = {
        "linear_weight": (linear_weight, (classes, features)),
        "linear_bias": (linear_bias, (classes,)),
        "hue_linear_weight": (hue_linear_weight, (2, features)),
        "hue_linear_bias": (hue_linear_bias, (2,)),
        "labels": (labels, (classes, 2)),
    }
    if weight is not None:
        expected["weight"] = (weight, (classes,))
    for name, (tensor, shape) in expected.items():
        _check_floating(name, tensor, shape)
        if tensor.dtype != input.dtype:
            raise TypeError(f"{name}: expected {input.dtype} as input is, got {tensor.dtype}")
    if labels.requires_grad:
        raise ValueError("labels: expected labels without gradient; hue_cross_entropy can learn them")
    if target.dtype != torch.int64:
        raise TypeError(f"target: expected int64 classes, got {target.dtype}")
    if target.shape != (rows,):
        raise ValueError(f"target: expected shape {(rows,)}, got {tuple(target.shape)}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
