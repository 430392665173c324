"""Checks of tensors, at the boundary; the kernels trust what passes here.

Where :func:`torch.nn.functional.cross_entropy` has words for an error, they are the words here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyhue.nn._autograd import refused_gradient

FLOATING = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))


def check_hue_cross_entropy(
    input: Tensor, hue: Tensor, target: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int
) -> None:
    """Raise TypeError or ValueError, naming the argument, unless the arguments fit together."""
    _check_tensors(input=input, hue=hue, target=target, labels=labels, weight=weight)
    if input.dtype not in FLOATING:
        raise TypeError(f"input: expected float32, float64, bfloat16 or float16, got {input.dtype}")
    shape = input.shape
    if not shape:
        raise ValueError("input: expected shape (C,), (N, C) or (N, C, d1, ..., dk), got a scalar")
    _check_devices(input, hue=hue, target=target, labels=labels, weight=weight)
    (*batch, classes), extra = shape[:2], shape[2:]
    if classes == 0:
        raise ValueError("input: expected at least 1 class, got 0")
    if hue.dim() > len(shape):
        _check_floating("hue (of every class, as its dimensions say)", hue, (*batch, classes, 2, *extra))
    else:
        _check_floating("hue", hue, (*batch, 2, *extra))
    _check_floating("labels", labels, (classes, 2))
    check_weight(weight, classes)
    if target.dim() == len(shape):
        _check_floating("target (class probabilities, as its shape says)", target, shape)
        if ignore_index >= 0:
            raise ValueError(
                f"ignore_index is not supported for floating point target, got ignore_index={ignore_index}"
            )
    else:
        _check_classes(target, (*batch, *extra))


def check_linear_hue_cross_entropy(
    linears: tuple[Tensor, ...], target: Tensor, labels: Tensor, weight: Tensor | None, reduction: str
) -> None:
    """Raise TypeError or ValueError, naming the argument, unless the arguments fit together."""
    input, linear_weight, linear_bias, hue_linear_weight, hue_linear_bias = linears
    layers = {
        "linear_weight": linear_weight,
        "linear_bias": linear_bias,
        "hue_linear_weight": hue_linear_weight,
        "hue_linear_bias": hue_linear_bias,
    }
    _check_tensors(input=input, **layers, target=target, labels=labels, weight=weight)
    if input.dtype not in FLOATING:
        raise TypeError(f"input: expected float32, float64, bfloat16 or float16, got {input.dtype}")
    if input.dim() != 2 or linear_weight.dim() != 2:
        raise ValueError(
            f"input, linear_weight: expected shapes (N, F) and (C, F), "
            f"got {tuple(input.shape)} and {tuple(linear_weight.shape)}"
        )
    _check_devices(input, **layers, target=target, labels=labels, weight=weight)
    (rows, features), classes = input.shape, len(linear_weight)
    if classes == 0:
        raise ValueError("linear_weight: expected at least 1 class, got 0")
    rows_of_hue = 2 * classes if hue_linear_weight.shape[:1] == (2 * classes,) else 2
    shapes = ((classes, features), (classes,), (rows_of_hue, features), (rows_of_hue,))
    for (name, tensor), shape in zip(layers.items(), shapes, strict=True):
        _check_floating(name, tensor, shape)
        if tensor.dtype != input.dtype:
            raise TypeError(f"{name}: expected {input.dtype} as input is, got {tensor.dtype}")
    _check_floating("labels", labels, (classes, 2))
    check_weight(weight, classes)
    if labels.requires_grad and torch.is_grad_enabled():
        raise ValueError("labels: expected labels without gradient; hue_cross_entropy can learn them")
    _check_classes(target, (rows,))
    if reduction == "none":
        raise ValueError("reduction: expected 'mean' or 'sum', got 'none'")


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise TypeError or ValueError unless these are hue labels of so many classes."""
    _check_tensors(labels=labels)
    _check_floating("labels", labels, (classes, 2))


def _check_tensors(**tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) and not (tensor is None and name == "weight"):
            found = None if tensor is None else type(tensor).__name__
            raise TypeError(f"{name}: expected a tensor, got {found}")


def _check_devices(input: Tensor, **others: Tensor | None) -> None:
    for name, tensor in others.items():
        if tensor is not None and tensor.device != input.device:
            raise ValueError(f"{name}: expected {input.device} as input is on, got {tensor.device}")


def _check_floating(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name}: expected float32, float64, bfloat16 or float16, got {tensor.dtype}")
    if tensor.shape != shape:
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")


def check_weight(weight: Tensor | None, classes: int) -> None:
    """Raise TypeError or ValueError unless these are factors of so many classes, or none."""
    _check_tensors(weight=weight)
    if weight is None:
        return
    if weight.shape != (classes,):
        raise ValueError(
            f"weight tensor should be defined either for all {classes} classes or no classes "
            f"but got weight tensor of shape: {list(weight.shape)}"
        )
    _check_floating("weight", weight, (classes,))
    if weight.requires_grad and torch.is_grad_enabled():
        raise refused_gradient("weight")


def _check_classes(target: Tensor, shape: Sequence[int]) -> None:
    if target.dtype != torch.int64:
        raise TypeError(f"target: expected int64 classes, got {target.dtype}")
    if target.shape == shape:
        return
    if target.dim() == len(shape) and target.shape[0] != shape[0]:
        raise ValueError(
            f"Expected input batch_size ({shape[0]}) to match target batch_size ({target.shape[0]})."
        )
    raise ValueError(f"target: expected shape {tuple(shape)}, got {tuple(target.shape)}")
