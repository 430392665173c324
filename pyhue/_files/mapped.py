"""safetensors files to be mapped: arrays begin on pages, and everything has a checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._files.atomic import replacing
from pyhue._files.reading import reading
from pyhue._files.sealed import checksum, digits, seal, sealed
from pyhue._files.tensors import Layout, TensorFile, header_bytes, open_tensors, word

PAGE = 4096  # bytes: of pages, and of what disks write
_WRITTEN = 1 << 20  # bytes written at once, and then still in the caches from their checksum
_FILLING = "filling-"  # what the names of bytes between arrays begin with


class Streamed(NamedTuple):
    """An array that is written part by part."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Iterable[NDArray[Any]]  #: its rows


def save_mapped(
    path: str | os.PathLike[str], metadata: dict[str, str], arrays: Mapping[str, NDArray[Any] | Streamed]
) -> str:
    """Writes a file, atomically and without a copy of the arrays; returns its seal.

    The metadata also get `checksum`, of the header, and `checksums`, of every array: JSON. Arrays of bytes
    stand between others, so that each begins on a page.

    Raises:
        OSError: it cannot be written.
    """
    given = {
        name: array if isinstance(array, Streamed) else Streamed(array.dtype, array.shape, (array,))
        for name, array in arrays.items()
    }
    layout = _layout(given)
    sums = dict.fromkeys(layout, 0)
    size = len(_header(metadata, layout, sums))
    with replacing(path) as file:
        file.seek(size)
        for name, (_, shape) in layout.items():
            for part in given[name].parts if name in given else (np.zeros(shape, np.uint8),):
                flat = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
                for begin in range(0, len(flat), _WRITTEN):
                    piece = flat[begin : begin + _WRITTEN]
                    sums[name] = checksum(piece, sums[name])
                    file.write(piece)
        if file.tell() != size + sum(_nbytes(*entry) for entry in layout.values()):
            raise ValueError(f"{os.fspath(path)}: expected arrays as long as they say")
        header = _header(metadata, layout, sums)
        file.seek(0)
        file.write(header)
    return seal(header)


def open_mapped(path: str | os.PathLike[str], what: str, expected: str | None = None) -> TensorFile:
    """Maps a file that `save_mapped` wrote; of its content only the header is read and checked.

    Args:
        path: the file.
        what: it is, in messages.
        expected: its seal, where that is known.

    Raises:
        OSError: it cannot be read.
        ValueError: it is truncated, foreign, or another one than expected; named.
    """
    file = open_tensors(path, what)
    with reading(path, f"a whole {what}"):
        size = 8 + int.from_bytes(file.content[:8], "little")
        found = seal(file.content[:size].tobytes())
        if expected is not None and found != expected:
            raise ValueError(f"expected the one with checksum {expected}, got {found}")
        file.checksums()
    return file


def _layout(arrays: Mapping[str, Streamed]) -> Layout:
    layout: Layout = {}
    for number, (name, array) in enumerate(arrays.items()):
        layout[name] = word(array.dtype), array.shape
        if filling := -_nbytes(*layout[name]) % PAGE:
            layout[f"{_FILLING}{number}"] = "U8", (filling,)
    return layout


def _header(metadata: dict[str, str], layout: Layout, sums: Mapping[str, int]) -> bytes:
    texts = {"checksum": "0" * 8, "checksums": json.dumps({name: digits(sums[name]) for name in layout})}
    return sealed(header_bytes(texts | metadata, layout, PAGE))


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * int(dtype[1:]) // 8
