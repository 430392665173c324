"""Memories on disk: one safetensors file."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import safetensors
from numpy.typing import NDArray

from pyhue._files.tensors import save_tensors
from pyhue._search.stored import Stored

_VERSION = 1
_PLAN = "plan."  # what an optimised memory's arrays begin with
_CHECKED = 1 << 22  # values read and checked at once
_WORDS: dict[str, type[np.generic]] = {"F32": np.float32, "U16": np.uint16, "I64": np.int64}


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


def save(path: str | os.PathLike[str], kind: Format, contents: Contents) -> None:
    """Writes a file, atomically."""
    arrays = {"vectors": contents.vectors} | contents.columns
    arrays |= {_PLAN + name: array for name, array in contents.plan.items()}
    metadata = {"format": kind.name, "version": str(_VERSION), "plan": contents.plan_numbers} | {
        name: str(number) for name, number in contents.numbers.items()
    }
    save_tensors(path, metadata, arrays)


def load(path: str | os.PathLike[str], kind: Format) -> Contents:
    """Reads and checks a file that `save` wrote."""
    path = os.fsdecode(path)
    with open(path, "rb"):  # the usual OSError for a path that cannot be opened
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            numbers = _checked_numbers(path, kind, metadata)
            _check_layout(path, kind, file, numbers)
            vectors, zero = _vectors(path, file.get_slice("vectors"))
            columns = {name: file.get_tensor(name) for name in kind.columns}
            names = list(file.keys())
            plan = {name[len(_PLAN) :]: file.get_tensor(name) for name in names if name.startswith(_PLAN)}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from error
    return Contents(vectors, zero, columns, numbers, plan, metadata.get("plan", ""))


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


def _check_layout(path: str, kind: Format, file: Any, numbers: dict[str, int]) -> None:
    """Names, dtypes and shapes, before anything is read."""
    dtypes = {"vectors": "U16" if numbers["bfloat16"] else "F32"} | dict.fromkeys(kind.columns, "I64")
    names = list(file.keys())
    if {name for name in names if not name.startswith(_PLAN)} != set(dtypes):
        raise ValueError(f"{path}: expected the arrays {', '.join(dtypes)}, got {', '.join(names)}")
    parts = {name: file.get_slice(name) for name in dtypes}
    n = (*parts["vectors"].get_shape(), 0)[0]
    for name, dtype in dtypes.items():
        shape = [n, numbers["dim"]] if name == "vectors" else [n]
        got = parts[name].get_dtype(), parts[name].get_shape()
        if got != (dtype, shape):
            raise ValueError(f"{path}: expected {name} of {dtype} {shape}, got {got[0]} {got[1]}")


def _vectors(path: str, source: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The vectors, read a part at a time into the place where they stay; and which are all zero."""
    n, dim = source.get_shape()
    vectors = np.empty((n, dim), _WORDS[source.get_dtype()])
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
