"""Memories on disk: one safetensors file."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import safetensors
from numpy.typing import NDArray

from pyhue._files.tensors import save_tensors
from pyhue._search.stored import Stored

_FORMAT = "pyhue.PixelMemory"
_VERSION = 1
MAX_LABEL = 2**31 - 1
_DTYPES = {"vectors": "F32", "labels": "I64", "images": "I64", "pixels": "I64"}  # in safetensors' words
_NUMBERS = ("dim", "normalize", "num_images", "bfloat16")


_PLAN = "plan."  # what an optimised memory's arrays begin with


class Contents(NamedTuple):
    """What a file holds."""

    vectors: NDArray[Any]  #: (n, dim) float32, or bfloat16 as uint16
    labels: NDArray[np.int64]  #: (n,)
    images: NDArray[np.int64]  #: (n,)
    pixels: NDArray[np.int64]  #: (n,)
    metadata: dict[str, int]
    plan: dict[str, NDArray[Any]]  #: arrays of an optimised memory's plan, as `pyhue._saved.plan` names them
    plan_numbers: str  #: and its numbers, JSON


def save(path: str | os.PathLike[str], contents: Contents) -> None:
    """Writes a file, atomically."""
    arrays = {name: getattr(contents, name) for name in _DTYPES}
    arrays |= {_PLAN + name: array for name, array in contents.plan.items()}
    metadata = {"format": _FORMAT, "version": str(_VERSION), "plan": contents.plan_numbers} | {
        k: str(v) for k, v in contents.metadata.items()
    }
    save_tensors(path, metadata, arrays)


def load(path: str | os.PathLike[str]) -> Contents:
    """Reads and checks a file that `save` wrote."""
    path = os.fsdecode(path)
    with open(path, "rb"):  # the usual OSError for a path that cannot be opened
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = _checked_metadata(path, file.metadata() or {})
            _check_layout(path, file, metadata)
            arrays = {name: file.get_tensor(name) for name in _DTYPES}
            names = list(file.keys())
            plan = {name[len(_PLAN) :]: file.get_tensor(name) for name in names if name.startswith(_PLAN)}
            plan_numbers = (file.metadata() or {}).get("plan", "")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from error
    _check_values(path, arrays, metadata["num_images"])
    return Contents(**arrays, metadata=metadata, plan=plan, plan_numbers=plan_numbers)


def _checked_metadata(path: str | os.PathLike[str], metadata: dict[str, str]) -> dict[str, int]:
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: expected a file of format {_FORMAT}, got {metadata.get('format')}")
    if metadata.get("version") != str(_VERSION):
        raise ValueError(f"{path}: expected version {_VERSION}, got {metadata.get('version')}")
    try:
        numbers = {name: int(metadata[name]) for name in _NUMBERS}
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected whole numbers for {', '.join(_NUMBERS)} in the metadata"
        ) from error
    if min(numbers.values()) < 0:
        raise ValueError(f"{path}: expected non-negative numbers in the metadata, got {numbers}")
    return numbers


def _check_layout(path: str | os.PathLike[str], file: Any, metadata: dict[str, int]) -> None:
    """Names, dtypes and shapes, before anything is read."""
    names = list(file.keys())
    if {name for name in names if not name.startswith(_PLAN)} != set(_DTYPES):
        raise ValueError(f"{path}: expected the arrays {', '.join(_DTYPES)}, got {', '.join(names)}")
    parts = {name: file.get_slice(name) for name in _DTYPES}
    n = (*parts["vectors"].get_shape(), 0)[0]
    for name, dtype in (_DTYPES | ({"vectors": "U16"} if metadata["bfloat16"] else {})).items():
        shape = [n, metadata["dim"]] if name == "vectors" else [n]
        got = parts[name].get_dtype(), parts[name].get_shape()
        if got != (dtype, shape):
            raise ValueError(f"{path}: expected {name} of {dtype} {shape}, got {got[0]} {got[1]}")


def _check_values(path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], num_images: int) -> None:
    if not all(np.isfinite(part).all() for part in Stored(arrays["vectors"]).parts()):
        raise ValueError(f"{path}: expected finite vectors, got NaN or Inf")
    for name, largest in (("labels", MAX_LABEL), ("images", num_images - 1), ("pixels", 2**63 - 1)):
        array = arrays[name]
        if array.size and not 0 <= array.min() <= array.max() <= largest:
            raise ValueError(
                f"{path}: expected {name} from 0 to {largest}, got {array.min()} to {array.max()}"
            )
