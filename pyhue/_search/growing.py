"""Arrays that grow at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """An array whose first axis grows by appending, at amortised constant cost a row.

    Views handed out stay valid: growing moves to a new array and leaves the old one to them.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike):
        self._data: NDArray[Any] = np.empty((0, *row_shape), dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> NDArray[Any]:
        """The rows so far, a view."""
        return self._data[: self._size]

    def reserve(self, rows: int) -> None:
        """Makes room for `rows` rows in all; unused room takes no physical memory."""
        if rows <= len(self._data):
            return
        grown = np.empty((max(rows, 2 * len(self._data)), *self._data.shape[1:]), self._data.dtype)
        grown[: self._size] = self.values
        self._data = grown

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows at the end."""
        self.reserve(self._size + len(rows))
        self._data[self._size : self._size + len(rows)] = rows
        self._size += len(rows)

    def extend(self, rows: int) -> NDArray[Any]:
        """Grows to `rows` rows in all, the new ones zero, and returns them all."""
        self.reserve(rows)
        self._data[self._size : rows] = 0
        self._size = max(self._size, rows)
        return self.values
