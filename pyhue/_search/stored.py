"""The vectors that a memory stores, as float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pyhue._search.chunked import Rows


@dataclass(frozen=True, eq=False)
class Stored:
    """A memory's vectors at one moment. Whatever is added later, nothing that it holds changes.

    Hidden rows keep their number and are nobody's neighbour: where vectors are compared by direction, those
    that have none. So are removed rows, which stay where they are packed and are left out of every search.
    """

    array: Rows  #: (n, dim) float32, or bfloat16 in uint16, each chunk C-contiguous: what the kernels read
    hidden: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  #: rows, ascending
    removed: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    """Bit row % 8 of byte row / 8: set where the row was removed; those behind were not."""
    epoch: int = 0  #: how often rows were renumbered: what is packed of another one is of no use

    def __len__(self) -> int:
        return len(self.array)

    @property
    def num_findable(self) -> int:
        """How many are not hidden."""
        return len(self) - len(self.hidden)

    @property
    def dim(self) -> int:
        """Channels of a vector."""
        return int(self.array.shape[1])

    @property
    def groups(self) -> NDArray[np.int64]:
        """(n,) which vectors belong together, and are no fair queries for each other: here none."""
        return np.arange(len(self))

    def rows(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Some of the vectors, as float32."""
        part = self.array[which]
        return part if part.dtype == np.float32 else (part.astype(np.uint32) << 16).view(np.float32)

    def parts(self, size: int = 8192) -> Iterator[NDArray[np.float32]]:
        """All vectors, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    def findable(self, begin: int, end: int) -> NDArray[np.int64]:
        """Rows from `begin` to `end` - 1 that may be neighbours, ascending."""
        first, last = np.searchsorted(self.hidden, (begin, end))
        rows = np.arange(begin, end)
        return np.delete(rows, self.hidden[first:last] - begin) if last > first else rows

    def without(self, rows: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64]]:
        """The same with these rows removed, in any order; and those that had not been, ascending."""
        rows = np.unique(rows)
        removed = np.zeros(max(len(self.removed), -(-len(self) // 8)), np.uint8)
        removed[: len(self.removed)] = self.removed
        rows = rows[removed[rows >> 3] >> (rows & 7).astype(np.uint8) & 1 == 0]
        np.bitwise_or.at(removed, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))
        removed.flags.writeable = False
        return replace(self, removed=removed), rows

    def compacted(self, rows: NDArray[np.int64]) -> Self:
        """These rows alone, ascending, with new numbers; nothing is removed of them."""
        hidden = np.flatnonzero(np.isin(rows, self.hidden, assume_unique=True))
        array = self.array[rows]
        return replace(self, array=array, hidden=hidden, removed=np.empty(0, np.uint8), epoch=self.epoch + 1)

    def is_removed(self) -> NDArray[np.bool_]:
        """(n,) which rows were removed."""
        mask = np.zeros(len(self), bool)
        mask[rows_of(self.removed)] = True
        return mask

    @property
    def num_removed(self) -> int:
        """How many rows were removed."""
        return len(rows_of(self.removed))

    @property
    def shifts(self) -> NDArray[np.int64]:
        """(hidden,) ascending: the p-th findable vector is row p + (how many of these are <= p)."""
        return self.hidden - np.arange(len(self.hidden))


def rows_of(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The rows whose bits are set, ascending."""
    return np.flatnonzero(np.unpackbits(bits, bitorder="little"))


def require_vectors(stored: Stored) -> None:
    """ValueError if there are none."""
    if not len(stored):
        raise ValueError("memory: expected at least one stored vector, got an empty memory")


def require_queries(queries: Any, dim: int) -> int:
    """`dim`; ValueError unless the array or tensor has the shape (..., dim)."""
    if queries.ndim < 1 or queries.shape[-1] != dim:
        raise ValueError(f"queries: expected shape (..., {dim}), got {tuple(queries.shape)}")
    return dim
