"""The packed form of a memory's vectors that makes exact search fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._growing import GrowingArray
from pyhue._plan import Clusters, Plan

_ROWS = 4096  # vectors packed at once
_CLUSTERS_VISITED = 4  # by each query, before the pass over the whole memory
_BOUND_TERMS = 4


class Index:
    """What `csrc/core/search.h` searches, kept in step with a growing array of vectors.

    The vectors present when the index is made are packed in the order of their clusters; later ones follow
    in the order of adding. Whatever plan and clusters, results are exact; they decide the speed only.
    """

    def __init__(self, vectors: NDArray[np.float32], plan: Plan, clusters: Clusters | None = None):
        self.plan = plan
        self._clusters = clusters
        padded_blocks = -(-plan.block_dims // 2) * 2
        padded_rows = -(-plan.row_dims // 32) * 32
        self._order = GrowingArray((), np.int64)
        self._blocks = GrowingArray((padded_blocks, _core.block), np.uint16)
        self._bounds = GrowingArray((_BOUND_TERMS, _core.block), np.float32)
        self._rows = GrowingArray((padded_rows,), np.uint16)
        self._row_bounds = GrowingArray((2,), np.float32)
        self._pack(vectors, np.arange(len(vectors)) if clusters is None else clusters.order)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        parts = (self._order, self._blocks, self._bounds, self._rows, self._row_bounds)
        return sum(part.values.nbytes for part in parts)

    def update(self, vectors: NDArray[np.float32]) -> None:
        """Packs the vectors that were added since the last call."""
        if len(vectors) > len(self._order):
            self._pack(vectors, np.arange(len(self._order), len(vectors)))

    def search(
        self, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest of `vectors`, all of them packed, to each of `queries` (n, dim)."""
        return _core.search(self._memory(vectors), self._queries(queries), k)

    def audit(
        self, vectors: NDArray[np.float32], queries: NDArray[np.float32], distances: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Which stage drops each vector (queries, n) when each query's k-th distance is known: for tests."""
        return _core.audit(self._memory(vectors), self._queries(queries), distances)

    def _memory(self, vectors: NDArray[np.float32]) -> _core.Memory:
        return _core.Memory(
            vectors,
            self._order.values,
            self._blocks.values,
            self._bounds.values,
            self._rows.values,
            self._row_bounds.values,
            None if self._clusters is None else self._clusters.starts,
            self.plan.block_dims,
            self.plan.row_dims,
        )

    def _coordinates(self, vectors: NDArray[np.float32]) -> _core.Coordinates:
        values, squared_norms = self.plan.coordinates(vectors)
        return _core.Coordinates(values, squared_norms, self.plan.orthogonality_error)

    def _queries(self, queries: NDArray[np.float32]) -> _core.Queries:
        nearest = np.empty((len(queries), 0), np.int32)
        if self._clusters is not None:
            nearest = self._clusters.nearest(queries, _CLUSTERS_VISITED)
        return _core.Queries(queries, self._coordinates(queries), nearest, self.plan.omit)

    def _pack(self, vectors: NDArray[np.float32], order: NDArray[np.int64]) -> None:
        first = len(self._order)
        self._order.append(order)
        count = -(-len(vectors) // _core.block)
        self._blocks.extend(count)
        self._bounds.extend(count)
        if self.plan.row_dims:
            self._rows.extend(len(vectors))
            self._row_bounds.extend(len(vectors))
        memory = self._memory(vectors)
        for start in range(0, len(order), _ROWS):
            part = vectors[order[start : start + _ROWS]]
            _core.pack(memory, self._coordinates(part), first + start)
