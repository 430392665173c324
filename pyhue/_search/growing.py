"""Arrays that grow at the end while others read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyhue._search.chunked import ChunkedArray, Rows, behind


class GrowingArray:
    """Room for rows, at amortised constant cost a row.

    How many rows there are is for the owner to know. What views of the first of them show never changes: rows
    are written behind, or all move to a new array and leave the old one to its readers. Chunks that it begins
    with never move.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike):
        self._fixed: tuple[NDArray[Any], ...] = ()
        self._fixed_rows = 0
        self._data: NDArray[Any] = np.empty((0, *row_shape), dtype)

    @classmethod
    def of(cls, rows: Rows) -> GrowingArray:
        """Begins with these rows, which stay where they are and may be read-only."""
        array = cls(rows.shape[1:], rows.dtype)
        if isinstance(rows, ChunkedArray):
            array._fixed, array._fixed_rows = rows.chunks, len(rows)
        else:
            array._data = rows
        return array

    def room(self, begin: int, end: int) -> NDArray[Any]:
        """Rows `begin` to `end` - 1, to be written: no view shows them. Those before `begin` are kept.

        Room that is not used takes no physical memory.
        """
        begin, end = begin - self._fixed_rows, end - self._fixed_rows
        if end > len(self._data):
            rows = end if begin == 0 else max(end, 2 * begin)
            grown = np.empty((rows, *self._data.shape[1:]), self._data.dtype)
            grown[:begin] = self._data[:begin]
            self._data = grown
        return self._data[begin:end]

    def first(self, count: int) -> Rows:
        """A read-only view of the first rows, those of all fixed chunks at least."""
        view = self._data[: count - self._fixed_rows]
        view.flags.writeable = False
        return behind(self._fixed, view)

    def appended(self, begin: int, rows: NDArray[Any]) -> Rows:
        """Writes rows behind the first `begin`; returns `first` of them all."""
        if len(rows):
            self.room(begin, begin + len(rows))[...] = rows
        return self.first(begin + len(rows))
