"""Segments of a memory on disk: vectors with their labels in a file that is written once and mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._files.mapped import Streamed, open_mapped, save_mapped
from pyhue._files.reading import reading
from pyhue._files.tensors import Layout, TensorFile
from pyhue._saved.manifest import Entry, Manifest, bytes_in, segment_name
from pyhue._saved.memory import PIXELS
from pyhue._search.labelled import Labelled
from pyhue._search.stored import Stored

WHAT = "segment of a memory"
_FORMAT = {"format": "pyhue.segment", "version": "1"}
_ROWS = 8192  # gathered at once
# Rows that are left out take about 32 bytes each to open and search: of more than the folder's bytes say, or
# than there may be without a packed form that has as many, it is the manifest that is wrong.
_ROW, _LEFT_OUT = 32, 20_000


@dataclass(frozen=True, eq=False)
class Segment:
    """What a file holds, mapped. Rows count from the segment's begin."""

    vectors: NDArray[Any]  #: (n, dim) float32, or bfloat16 as uint16
    zero: NDArray[np.int64]  #: which of them have no direction, ascending
    columns: dict[str, NDArray[np.int64]]  #: labels, images, pixels (n,); empty for vectors alone
    classes: NDArray[np.int64]  #: labels that occur, ascending
    class_counts: NDArray[np.int64]  #: vectors of each that have a direction
    left_out: bool = False  #: it could not be read


def write_segment(folder: Path, number: int, stored: Stored, rows: range | NDArray[np.int64]) -> Entry:
    """Writes rows of a memory, ascending."""
    if isinstance(rows, range):
        zero = _within(stored.hidden, rows.start, rows.stop) - rows.start
    else:
        zero = np.searchsorted(rows, np.intersect1d(stored.hidden, rows, assume_unique=True))
    arrays: dict[str, NDArray[Any] | Streamed] = {
        "vectors": Streamed(stored.array.dtype, (len(rows), stored.dim), _parts(stored.array, rows))
    }
    arrays["zero"] = zero
    if isinstance(stored, Labelled):
        for name in PIXELS.columns:
            arrays[name] = Streamed(np.dtype(np.int64), (len(rows),), _parts(getattr(stored, name), rows))
        labels = np.concatenate([np.empty(0, np.int64), *_parts(stored.labels, rows)])
        classes, counts = np.unique(labels, return_counts=True)
        counts -= np.bincount(np.searchsorted(classes, labels[zero]), minlength=len(classes))
        arrays |= {"classes": classes, "class_counts": counts}
    path = folder / segment_name(Entry(number, len(rows), ""))
    return Entry(number, len(rows), save_mapped(path, _FORMAT, arrays))


def open_segment(folder: Path, manifest: Manifest, entry: Entry, scattered: bool = False) -> Segment:
    """Maps a segment; of its content, only the short arrays are read.

    `scattered`: of the vectors, what a search asks for is read, and not what is around it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or another one than the manifest says; it names the file.
    """
    path = folder / segment_name(entry)
    file = open_mapped(path, WHAT, entry.checksum)
    with reading(path, f"a whole {WHAT}"):
        segment = _checked(file, manifest, entry)
    if scattered:
        file.scattered("vectors")
    return segment


def missing_segment(folder: Path, manifest: Manifest, entry: Entry, others: int) -> Segment:
    """In the place of one that cannot be read: rows that nobody finds, without labels.

    `others`: rows that are left out already. ValueError where the folder is too small to have had so many.
    """
    there = bytes_in(folder)
    if others + entry.rows > max(_LEFT_OUT, there // _ROW):
        path = folder / segment_name(entry)
        raise ValueError(f"{path}: its {entry.rows} rows are too many to be left out of {there} bytes")
    dtype = np.float32 if manifest.dtype == "float32" else np.uint16
    nothing = np.zeros((1, manifest.dim), dtype)
    names = PIXELS.columns if manifest.kind == PIXELS.name else ()
    none = np.broadcast_to(np.int64(-1), (entry.rows,))
    empty = np.empty(0, np.int64)
    return Segment(
        np.broadcast_to(nothing, (entry.rows, manifest.dim)),
        np.arange(entry.rows),
        dict.fromkeys(names, none),
        empty,
        empty,
        left_out=True,
    )


def _checked(file: TensorFile, manifest: Manifest, entry: Entry) -> Segment:
    if {name: file.metadata.get(name) for name in _FORMAT} != _FORMAT:
        raise ValueError(f"expected {_FORMAT}")
    names = PIXELS.columns if manifest.kind == PIXELS.name else ()
    dtype = "F32" if manifest.dtype == "float32" else "U16"
    expected: Layout = {"vectors": (dtype, (entry.rows, manifest.dim))}
    expected |= dict.fromkeys(names, ("I64", (entry.rows,)))
    wanted = {*expected, "zero", *(("classes", "class_counts") if names else ())}
    if not wanted <= set(file.layout):
        raise ValueError(f"expected the arrays {', '.join(sorted(wanted))}")
    for name, entry_layout in expected.items():
        if file.layout[name] != entry_layout:
            raise ValueError(f"expected {name} of {entry_layout}, got {file.layout[name]}")
    zero = _ascending(file, "zero")
    if len(zero) and not 0 <= zero[0] <= zero[-1] < entry.rows:
        raise ValueError(f"expected zero rows from 0 to {entry.rows - 1}")
    classes = counts = np.empty(0, np.int64)
    if names:
        classes = _ascending(file, "classes")
        counts = _integers(file, "class_counts")
        if len(counts) != len(classes) or (len(counts) and counts.min() < 0):
            raise ValueError("expected a count for each class")
    columns = {name: file.array(name) for name in names}
    return Segment(file.array("vectors"), zero, columns, classes, counts)


def _integers(file: TensorFile, name: str) -> NDArray[np.int64]:
    dtype, shape = file.layout[name]
    if dtype != "I64" or len(shape) != 1:
        raise ValueError(f"expected {name} of I64 and one dimension, got {dtype} {shape}")
    return file.array(name)


def _ascending(file: TensorFile, name: str) -> NDArray[np.int64]:
    array = _integers(file, name)
    if (array[1:] <= array[:-1]).any():
        raise ValueError(f"expected {name} to rise")
    return array


def _within(rows: NDArray[np.int64], begin: int, end: int) -> NDArray[np.int64]:
    first, last = np.searchsorted(rows, (begin, end))
    return rows[first:last]


def _parts(array: Any, rows: range | NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    for begin in range(0, len(rows), _ROWS):
        part = rows[begin : begin + _ROWS]
        yield array[slice(part.start, part.stop)] if isinstance(part, range) else array[part]
