"""Rows of one array that lie in several: mapped files, and what was added since."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


class ChunkedArray:
    """Arrays of one dtype and row shape, read as if they were one after the other.

    A slice of step 1 that lies within one chunk is a view; whatever else is asked for is a copy.
    """

    def __init__(self, chunks: Sequence[NDArray[Any]]):
        self.chunks = tuple(chunks)  #: at least one
        self.starts = (0, *accumulate(len(chunk) for chunk in self.chunks))  #: first row of each, and the end
        self.dtype = self.chunks[0].dtype
        self.itemsize = self.chunks[0].itemsize
        self.shape = (self.starts[-1], *self.chunks[0].shape[1:])

    def __len__(self) -> int:
        return self.starts[-1]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[:]
        return np.array(whole, dtype) if copy else np.asarray(whole, dtype)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a slice, or of an array of row numbers of any shape; -1 gives any row."""
        if isinstance(which, slice):
            begin, end, step = which.indices(len(self))
            if step != 1:
                return self[np.arange(begin, end, step)]
            parts = list(self._parts(begin, end))
            return parts[0] if len(parts) == 1 else np.concatenate([self.chunks[0][:0], *parts])
        rows = np.maximum(which, 0)
        places = np.searchsorted(self.starts, rows, side="right") - 1
        if places.size and (places == places.flat[0]).all():
            first = places.flat[0]
            alone: NDArray[Any] = self.chunks[first][rows - self.starts[first]]
            return alone
        found = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        for place in np.unique(places):
            here = places == place
            found[here] = self.chunks[place][rows[here] - self.starts[place]]
        return found

    def _parts(self, begin: int, end: int) -> Iterator[NDArray[Any]]:
        for start, chunk in zip(self.starts, self.chunks, strict=False):
            if start < end and begin < start + len(chunk):
                yield chunk[max(0, begin - start) : end - start]


Rows: TypeAlias = "NDArray[Any] | ChunkedArray"


def chunks_of(rows: Rows) -> list[tuple[int, NDArray[Any]]]:
    """The arrays that rows lie in, and the first row of each."""
    if isinstance(rows, ChunkedArray):
        return list(zip(rows.starts, rows.chunks, strict=False))
    return [(0, rows)]


def chunk_with(rows: Rows, begin: int, end: int) -> NDArray[Any] | None:
    """A view of rows `begin` to `end` - 1; None where they do not lie in one array."""
    if not isinstance(rows, ChunkedArray):
        return rows[begin:end] if end <= len(rows) else None
    place = bisect.bisect_right(rows.starts, begin) - 1
    if place >= len(rows.chunks) or end > rows.starts[place + 1]:
        return None
    start = rows.starts[place]
    return rows.chunks[place][begin - start : end - start]


def rows_with(column: Rows, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows that hold one of some values, ascending."""
    found = [start + np.flatnonzero(np.isin(chunk, values)) for start, chunk in chunks_of(column)]
    return np.concatenate(found)


def behind(fixed: Sequence[NDArray[Any]], tail: NDArray[Any]) -> Rows:
    """Rows of a growing array behind others, where there are any."""
    return ChunkedArray((*fixed, tail)) if fixed else tail
