"""Rows of a memory as the filters read them: arrays, checked where they enter C++."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyhue import _core
from pyhue._search.chunked import Rows, chunk_with
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored

#: Names of what a piece holds, in their order.
ARRAYS = ("order", "blocks", "bounds", "rows", "row_bounds", "cluster_starts")
_ALIGNMENT = 64  # bytes: a register, and a line of the caches


class PackedPiece:
    """Rows begin .. end - 1 of a memory, those that can be found, packed; never changed.

    Attributes:
        layout: block_ends, row_begin, row_ends and steps of the plan.
        arrays: those that `ARRAYS` names, as `csrc/core/pack.h` and `memory.h` have them; None where there
            are no rows or clusters. `order` counts from `begin`, so that a piece does not depend on where in
            the memory its rows are.
        core: the same for `_core.search`.

    Raises:
        ValueError: an array does not have the shape and dtype that the layout asks for.
    """

    def __init__(self, begin: int, end: int, layout: tuple[Any, ...], arrays: tuple[Any, ...]):
        self.begin, self.end, self.layout, self.arrays = begin, end, layout, arrays
        self.core = _core.Packed(_core.Layout(*layout), *arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedPiece, (self.begin, self.end, self.layout, self.arrays)

    def __copy__(self) -> PackedPiece:
        piece = object.__new__(PackedPiece)
        piece.__dict__ = self.__dict__.copy()  # `core` too, which was checked
        return piece

    def __len__(self) -> int:
        """How many rows it covers."""
        return self.end - self.begin

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(int(part.nbytes) for part in self.arrays if part is not None)

    @property
    def clustered(self) -> bool:
        """Whether its rows are in the order of clusters."""
        return self.arrays[-1] is not None

    def copied(self) -> PackedPiece:
        """The same in arrays of its own."""
        arrays = tuple(None if part is None else _copy(part) for part in self.arrays)
        return PackedPiece(self.begin, self.end, self.layout, arrays)

    def moved(self, begin: int) -> PackedPiece:
        """The same of rows that begin elsewhere."""
        piece = copy.copy(self)
        piece.begin, piece.end = begin, begin + len(self)
        return piece

    def searched(self, array: Rows) -> _core.Piece | None:
        """What `_core.search` takes; None where no row can be found, or they do not lie in one chunk."""
        vectors = chunk_with(array, self.begin, self.end) if len(self.arrays[0]) else None
        return None if vectors is None else _core.Piece(vectors, self.core, self.begin)


def packed(
    stored: Stored,
    plan: Plan,
    rows: range,
    order: NDArray[np.int64],
    starts: NDArray[np.int64] | None = None,
) -> PackedPiece:
    """Packs the vectors `order`, those of `rows` that can be found; `starts`: of their clusters.

    `rows` lie in one chunk.
    """
    n, layout = len(order), plan.core_layout
    count = -(-n // _core.block)
    blocks = _aligned((count, *layout.block_shape), np.uint8)
    bounds = _aligned((count, layout.block_terms, _core.block), np.float32)
    blocks[-1:] = bounds[-1:] = 0  # where the last block has no vectors
    second: tuple[Any, ...] = (None, None)
    if plan.row_ends:
        shape = (n, len(plan.row_ends), _core.stage_terms)
        second = _aligned((n, layout.padded_row_dims), np.uint8), _aligned(shape, np.float32)
    arrays = (order - rows.start, blocks, bounds, *second, starts)
    piece = PackedPiece(rows.start, rows.stop, plan.layout, arrays)
    if n:
        vectors = chunk_with(stored.array, rows.start, rows.stop)
        assert vectors is not None  # they lie in one chunk
        _core.pack(piece.core, plan.projection, vectors)
    return piece


def _copy(array: NDArray[Any]) -> NDArray[Any]:
    copied = _aligned(array.shape, array.dtype)
    copied[...] = array
    return copied


def _aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array, not initialised, that begins where loads of whole registers split no line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % _ALIGNMENT
    return room[skip : skip + size].view(dtype).reshape(shape)
