"""safetensors files beyond what the package offers: written without a copy or piece by piece, and mapped."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
from numpy.typing import NDArray

from pyhue._files.atomic import replacing
from pyhue._files.sealed import checksum
from pyhue._text import printable

_Array = NDArray[Any]
_READ = 16 << 20  # bytes checked at once
Layout = dict[str, tuple[str, tuple[int, ...]]]  #: dtype, in safetensors' words, and shape of each array


def header_bytes(metadata: dict[str, str], layout: Layout, multiple: int = 8) -> bytes:
    """What a safetensors file begins with: the length of a JSON object, and the object.

    Args:
        metadata: texts to keep.
        layout: the arrays in the order of their data.
        multiple: where data begins: at a multiple of so many bytes.
    """
    content: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + math.prod(shape) * int(dtype[1:]) // 8
        content[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(content).encode()
    text += b" " * (-(8 + len(text)) % multiple)
    return len(text).to_bytes(8, "little") + text


def save_tensors(
    path: str | os.PathLike[str], metadata: dict[str, str], arrays: Mapping[str, _Array]
) -> None:
    """Writes a file, atomically and without a copy of contiguous arrays.

    Args:
        path: the file.
        metadata: texts to keep.
        arrays: of integers or floating numbers.

    Raises:
        OSError: it cannot be written.
    """
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))  # every array is aligned
    layout = {name: (word(array.dtype), array.shape) for name, array in ordered.items()}
    with replacing(path) as file:
        file.write(header_bytes(metadata, layout))
        for array in ordered.values():
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


class TensorFile(NamedTuple):
    """A file that was checked and mapped: what is not used is not read."""

    path: str
    metadata: dict[str, str]
    layout: Layout
    starts: dict[str, int]  #: first byte of each array
    content: NDArray[np.uint8]  #: the whole file, read-only
    mapping: mmap.mmap  #: what `content` shows

    def array(self, name: str) -> _Array:
        """One of the arrays, a read-only view of the file.

        Raises:
            ValueError: NumPy does not have its dtype.
        """
        dtype, shape = self.layout[name]
        if dtype not in _DTYPES:
            raise ValueError(
                f"{printable(self.path)}: expected {name} of one of {', '.join(_DTYPES)}, got {dtype}"
            )
        begin, size = self.starts[name], math.prod(shape) * _DTYPES[dtype].itemsize
        return self.content[begin : begin + size].view(_DTYPES[dtype]).reshape(shape)

    def scattered(self, name: str) -> None:
        """Has the system read of an array what is asked for, not what is around it too."""
        if hasattr(mmap, "MADV_RANDOM"):
            dtype, shape = self.layout[name]
            begin = -(-self.starts[name] // mmap.PAGESIZE) * mmap.PAGESIZE
            end = self.starts[name] + math.prod(shape) * int(dtype[1:]) // 8
            if end > begin:
                self.mapping.madvise(mmap.MADV_RANDOM, begin, end - begin)

    def checksums(self) -> dict[str, int]:
        """Of each array, as `pyhue._files.mapped` wrote them.

        Raises:
            ValueError: they are not there.
        """
        found = json.loads(self.metadata.get("checksums", "null"))
        if not isinstance(found, dict) or set(found) != set(self.layout):
            raise ValueError("it has no checksums of its arrays")
        return {name: int(str(value), 16) for name, value in found.items()}

    def damaged(self, progress: Callable[[int], object] = lambda size: None) -> list[str]:
        """Names of arrays that are not what was written; reads all of the file, and tells of each part."""
        wrong, expected = [], self.checksums()
        for name, (dtype, shape) in self.layout.items():
            begin, found = self.starts[name], 0
            end = begin + math.prod(shape) * int(dtype[1:]) // 8
            for first in range(begin, end, _READ):
                part = self.content[first : min(end, first + _READ)]
                found = checksum(part, found)
                progress(len(part))
            if found != expected[name]:
                wrong.append(name)
        return wrong


def open_tensors(path: str | os.PathLike[str], what: str = "safetensors file") -> TensorFile:
    """Maps a safetensors file, which the error message calls `what`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is truncated or no safetensors file.
    """
    path = os.fsdecode(path)
    with open(path, "rb") as file:  # also the usual OSError for a path that cannot be opened
        try:
            with safetensors.safe_open(path, framework="numpy") as checked:
                metadata = checked.metadata() or {}
        except safetensors.SafetensorError as error:
            raise ValueError(f"{printable(path)}: not a whole {what}: {error}") from error
        size = int.from_bytes(file.read(8), "little")
        entries: dict[str, Any] = json.loads(file.read(size))
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    entries.pop("__metadata__", None)
    layout = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    starts = {name: 8 + size + entry["data_offsets"][0] for name, entry in entries.items()}
    return TensorFile(path, metadata, layout, starts, np.frombuffer(mapping, np.uint8), mapping)


def word(dtype: np.dtype[Any]) -> str:
    """A dtype in safetensors' words."""
    return f"{dtype.kind.upper()}{8 * dtype.itemsize}"


_DTYPES = {
    word(np.dtype(kind)): np.dtype(kind)
    for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
}
