"""Memories on disk: one safetensors file."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._files.tensors import TensorFile, open_tensors, save_tensors
from pyhue._search.stored import Stored

_VERSION = 1
_PLAN = "plan."  # what an optimised memory's arrays begin with
_REMOVED = "removed"  # bits of the rows that were removed
_CHECKED = 1 << 22  # values read and checked at once


class Format(NamedTuple):
    """What a kind of memory keeps beside its vectors."""

    name: str
    columns: tuple[str, ...]  #: int64, of each vector
    numbers: tuple[str, ...]  #: of the whole


VECTORS = Format("pyhue.VectorMemory", (), ("dim", "normalize", "bfloat16"))
PIXELS = Format(
    "pyhue.PixelMemory", ("labels", "images", "pixels"), ("dim", "normalize", "num_images", "bfloat16")
)


class Contents(NamedTuple):
    """What a file holds."""

    vectors: NDArray[Any]  #: (n, dim) float32, or bfloat16 as uint16
    zero: NDArray[np.int64]  #: which of them are all zero; found out, not written
    columns: dict[str, NDArray[np.int64]]  #: as the format names them, (n,)
    numbers: dict[str, int]  #: as the format names them
    plan: dict[str, NDArray[Any]]  #: arrays of an optimised memory's plan, as `pyhue._saved.plan` names them
    plan_numbers: str  #: and its numbers, JSON
    removed: NDArray[np.uint8]  #: `Stored.removed`; written where it is not empty


def save(path: str | os.PathLike[str], kind: Format, contents: Contents) -> None:
    """Writes a file, atomically."""
    arrays = {"vectors": contents.vectors} | contents.columns
    arrays |= {_PLAN + name: array for name, array in contents.plan.items()}
    if len(contents.removed):
        arrays[_REMOVED] = contents.removed
    metadata = {"format": kind.name, "version": str(_VERSION), "plan": contents.plan_numbers} | {
        name: str(number) for name, number in contents.numbers.items()
    }
    save_tensors(path, metadata, arrays)


def load(path: str | os.PathLike[str], kind: Format) -> Contents:
    """Reads and checks a file that `save` wrote."""
    path = os.fsdecode(path)
    file = open_tensors(path)
    numbers = _checked_numbers(path, kind, file.metadata)
    _check_layout(path, kind, file, numbers)
    vectors, zero = _vectors(path, file.array("vectors"))
    columns = {name: file.array(name).copy() for name in kind.columns}
    names = [name for name in file.layout if name.startswith(_PLAN)]
    plan = {name[len(_PLAN) :]: file.array(name).copy() for name in names}
    removed = file.array(_REMOVED).copy() if _REMOVED in file.layout else np.empty(0, np.uint8)
    return Contents(vectors, zero, columns, numbers, plan, file.metadata.get("plan", ""), removed)


def require_range(path: str | os.PathLike[str], name: str, array: NDArray[np.int64], largest: int) -> None:
    """ValueError naming the file unless an array has values from 0 to `largest`."""
    if array.size and not 0 <= array.min() <= array.max() <= largest:
        raise ValueError(
            f"{os.fsdecode(path)}: expected {name} from 0 to {largest}, got {array.min()} to {array.max()}"
        )


def _checked_numbers(path: str, kind: Format, metadata: dict[str, str]) -> dict[str, int]:
    if metadata.get("format") != kind.name:
        raise ValueError(f"{path}: expected a file of format {kind.name}, got {metadata.get('format')}")
    if metadata.get("version") != str(_VERSION):
        raise ValueError(f"{path}: expected version {_VERSION}, got {metadata.get('version')}")
    try:
        numbers = {name: int(metadata[name]) for name in kind.numbers}
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected whole numbers for {', '.join(kind.numbers)} in the metadata"
        ) from error
    if min(numbers.values()) < 0:
        raise ValueError(f"{path}: expected non-negative numbers in the metadata, got {numbers}")
    return numbers


def _check_layout(path: str, kind: Format, file: TensorFile, numbers: dict[str, int]) -> None:
    """Names, dtypes and shapes, before anything is read."""
    dtypes = {"vectors": "U16" if numbers["bfloat16"] else "F32"} | dict.fromkeys(kind.columns, "I64")
    if {name for name in file.layout if not name.startswith(_PLAN)} - {_REMOVED} != set(dtypes):
        raise ValueError(f"{path}: expected the arrays {', '.join(dtypes)}, got {', '.join(file.layout)}")
    n = (*file.layout["vectors"][1], 0)[0]
    for name, dtype in dtypes.items():
        shape = [n, numbers["dim"]] if name == "vectors" else [n]
        got_dtype, got_shape = file.layout[name]
        if (got_dtype, list(got_shape)) != (dtype, shape):
            raise ValueError(f"{path}: expected {name} of {dtype} {shape}, got {got_dtype} {list(got_shape)}")
    got_dtype, got_shape = file.layout.get(_REMOVED, ("U8", (0,)))
    if got_dtype != "U8" or len(got_shape) != 1 or got_shape[0] > -(-n // 8):
        raise ValueError(
            f"{path}: expected {_REMOVED} of U8 [{-(-n // 8)}], got {got_dtype} {list(got_shape)}"
        )


def _vectors(path: str, source: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The vectors, read a part at a time into the place where they stay; and which are all zero."""
    n, dim = source.shape
    vectors = np.empty((n, dim), source.dtype)
    zero = [np.empty(0, np.int64)]
    step = max(1, _CHECKED // max(1, dim))
    for begin in range(0, n, step):
        here = slice(begin, min(n, begin + step))
        vectors[here] = source[here]
        part = Stored(vectors[here]).rows(slice(None))
        if not np.isfinite(part).all():
            raise ValueError(f"{path}: expected finite vectors, got NaN or Inf")
        zero.append(begin + np.flatnonzero(~part.any(axis=1)))
    return vectors, np.concatenate(zero)
