"""Memories on disk: one safetensors file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

_FORMAT = "pyhue.PixelMemory"
_VERSION = 1
_DTYPES = {"vectors": np.float32, "labels": np.int64, "images": np.int64, "pixels": np.int64}
_NUMBERS = ("dim", "normalize", "num_images", "bfloat16")


class Contents(NamedTuple):
    """What a file holds."""

    vectors: NDArray[Any]  #: (n, dim) float32, or bfloat16 as uint16
    labels: NDArray[np.int64]  #: (n,)
    images: NDArray[np.int64]  #: (n,)
    pixels: NDArray[np.int64]  #: (n,)
    metadata: dict[str, int]


def save(path: str | os.PathLike[str], contents: Contents) -> None:
    """Writes to a temporary file beside `path`, syncs it, renames it to `path`."""
    target = Path(path)
    arrays = {name: np.ascontiguousarray(getattr(contents, name)) for name in _DTYPES}
    metadata = {"format": _FORMAT, "version": str(_VERSION)} | {
        k: str(v) for k, v in contents.metadata.items()
    }
    handle, name = tempfile.mkstemp(dir=target.parent or ".", prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    try:
        try:
            safetensors.numpy.save_file(arrays, name, metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error
        _sync(name)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync(target.parent)


def load(path: str | os.PathLike[str]) -> Contents:
    """Reads and checks a file that `save` wrote."""
    with open(path, "rb"):  # the usual OSError for a path that cannot be opened
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = _checked_metadata(path, file.metadata() or {})
            if set(file.keys()) != set(_DTYPES):
                raise ValueError(
                    f"{path}: expected the arrays {', '.join(_DTYPES)}, got {', '.join(file.keys())}"
                )
            arrays = {name: file.get_tensor(name) for name in _DTYPES}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from error
    _check_arrays(path, arrays, metadata)
    return Contents(**arrays, metadata=metadata)


def _checked_metadata(path: str | os.PathLike[str], metadata: dict[str, str]) -> dict[str, int]:
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: expected a file of format {_FORMAT}, got {metadata.get('format')}")
    if metadata.get("version") != str(_VERSION):
        raise ValueError(f"{path}: expected version {_VERSION}, got {metadata.get('version')}")
    try:
        return {name: int(metadata[name]) for name in _NUMBERS}
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected whole numbers for {', '.join(_NUMBERS)} in the metadata"
        ) from error


def _check_arrays(
    path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], metadata: dict[str, int]
) -> None:
    shape = arrays["vectors"].shape
    if len(shape) != 2 or shape[1] != metadata["dim"]:
        raise ValueError(f"{path}: expected vectors of shape (n, {metadata['dim']}), got {shape}")
    dtypes = _DTYPES | {"vectors": np.uint16 if metadata["bfloat16"] else np.float32}
    for name, dtype in dtypes.items():
        array = arrays[name]
        if (
            array.dtype != dtype
            or array.shape[:1] != shape[:1]
            or array.ndim != (2 if name == "vectors" else 1)
        ):
            raise ValueError(
                f"{path}: expected {name} of {np.dtype(dtype)} for {shape[0]} vectors, got "
                f"{array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all() or (name != "vectors" and array.min(initial=0) < 0):
            raise ValueError(f"{path}: {name} holds a value that a memory cannot hold")
    if arrays["images"].max(initial=-1) >= metadata["num_images"]:
        raise ValueError(
            f"{path}: images holds a number that is not below num_images {metadata['num_images']}"
        )


def _sync(path: str | os.PathLike[str]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
