"""The packed form of a memory's vectors that makes exact search fast: centred, rounded to bfloat16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._growing import GrowingArray

_ROWS = 4096  # vectors packed at once


class Index:
    """What `csrc/core/search.h` searches, kept in step with a growing array of vectors.

    The centre is the mean of the vectors present when the first search packs them; any centre gives exact
    results, a near one rounds less.
    """

    def __init__(self, vectors: NDArray[np.float32]):
        dim = vectors.shape[1]
        self._center = np.zeros(dim)
        for start in range(0, len(vectors), _ROWS):
            self._center += vectors[start : start + _ROWS].sum(axis=0, dtype=np.float64) / len(vectors)
        self._size = 0
        self._blocks = GrowingArray((_core.padded(dim) // 2, _core.block, 2), np.uint16)
        self._bounds = GrowingArray((4, _core.block), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        return self._blocks.values.nbytes + self._bounds.values.nbytes

    def _coordinates(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        centred = vectors - self._center
        return centred, np.einsum("ij,ij->i", centred, centred)

    def update(self, vectors: NDArray[np.float32]) -> None:
        """Packs the vectors that were added since the last call."""
        if len(vectors) == self._size:
            return
        count = -(-len(vectors) // _core.block)
        blocks, bounds = self._blocks.extend(count), self._bounds.extend(count)
        for start in range(self._size, len(vectors), _ROWS):
            coordinates, squared_norms = self._coordinates(vectors[start : start + _ROWS])
            _core.pack_memory(coordinates, squared_norms, 0.0, start, blocks, bounds)
        self._size = len(vectors)

    def search(
        self, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest of `vectors`, all of them packed, to each of `queries` (n, dim)."""
        coordinates, squared_norms = self._coordinates(queries)
        return _core.search(
            vectors,
            self._blocks.values,
            self._bounds.values,
            vectors.shape[1],
            queries,
            coordinates,
            squared_norms,
            0.0,
            k,
        )
