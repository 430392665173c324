"""Vectors as a memory stores and compares them, from what a user passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._arrays import floating, is_tensor
from pyhue._threads import follow_torch

_CONVERTED = 1 << 22  # values converted at once


def sliceable(value: Any, name: str, resident: bool) -> Any:
    """`value`, floating, as an array or tensor whose slices `store_rows` can take: nothing large is copied.

    `resident`: it may lie on a GPU.
    """
    if not is_tensor(value) or str(value.layout) != "torch.strided":
        return floating(value, name)
    if resident and value.device.type == "cuda":
        floating(value[:0].cpu(), name)
        return value.detach()
    return value.detach() if str(value.dtype) == "torch.bfloat16" else floating(value, name)


def store_rows(values: Any, name: str, normalize: bool, to: NDArray[Any]) -> NDArray[np.bool_]:
    """Writes vectors, (n, dim) or (n, m, dim) and `sliceable`, as a memory keeps them.

    Args:
        values: any strides.
        name: of the argument, for messages; rows in these count vectors.
        normalize: scale each to unit length; those that are all zero stay so.
        to: float32, or bfloat16 as uint16, (vectors, dim); where this raises, some of it has been written.

    Returns:
        Which vectors are all zero. A vector's values do not depend on those around it.
    """
    follow_torch()
    zero = np.empty(len(to), np.bool_)
    each = math.prod(values.shape[1:])  # converted a few at a time: never all twice
    copied = is_tensor(values) or not values.flags.c_contiguous or values.dtype == np.float16
    step = max(1, _CONVERTED // max(1, each)) if copied else max(1, len(values))
    done = 0
    for begin in range(0, len(values), step):
        part = values[begin : begin + step]
        array = floating(part.cpu() if is_tensor(part) else part, name)
        wide: NDArray[Any] = np.ascontiguousarray(
            array.reshape(-1, to.shape[1]), np.float64 if array.dtype == np.float64 else np.float32
        )
        here = slice(done, done + len(wide))
        bad = _core.store_rows(wide, normalize, to[here], zero[here]) if len(wide) else -1
        if bad >= 0:
            if not np.isfinite(wide[bad]).all():
                raise ValueError(f"{name}: expected finite values, got NaN or Inf in row {done + bad}")
            kind = "float32" if to.dtype == np.float32 else "bfloat16"
            raise ValueError(
                f"{name}: expected values that {kind} holds, got a larger one in row {done + bad}"
            )
        done += len(wide)
    return zero


def query_rows(
    array: NDArray[np.floating[Any]], name: str, normalize: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(rows, dim) of any floating dtype and strides as contiguous float32, each of unit length if asked.

    And which of them are all zero, and stay so.
    """
    rows = np.empty(array.shape, np.float32)
    return rows, store_rows(array, name, normalize, rows)


def vector_rows(array: NDArray[np.floating[Any]], name: str, normalize: bool) -> NDArray[np.float32]:
    """The rows alone."""
    return query_rows(array, name, normalize)[0]
