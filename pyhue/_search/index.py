"""The packed form of a memory's vectors that makes exact search fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.clusters import Clusters
from pyhue._search.plan import FloatArray, Plan
from pyhue._search.stored import Stored

_ROWS = 2048  # vectors packed at once
_CLUSTERS_VISITED = 2  # by each query, before the pass over the whole memory
_BOUND_TERMS = 4


class Index:
    """What `csrc/core/search.h` searches. (A stand-in: packs all anew when it is extended.)"""

    def __init__(self, stored: Stored, plan: Plan, clusters: Clusters | None = None):
        self.plan = plan
        self.clusters = clusters
        self.measured: dict[str, float] = {}  #: what `optimize` found out
        self._covered = len(stored)
        rows = stored.findable(0, len(stored))
        self._rows_of = rows
        order = rows if clusters is None else clusters.order
        if clusters is not None and len(clusters.order) > len(rows):
            kept = np.isin(clusters.order, rows)
            order = clusters.order[kept]
            sums = np.concatenate(([0], np.cumsum(kept)))
            self.clusters = clusters = Clusters(clusters.centroids, order, sums[clusters.starts])
        place = np.empty(len(stored), np.int64)
        place[rows] = np.arange(len(rows))
        self._order = place[order]
        self._array = stored.array if len(rows) == len(stored) else stored.array[rows]
        blocks = -(-len(rows) // _core.block)
        padded_rows = -(-plan.row_dims // 32) * 32
        self._blocks = np.zeros((blocks, -(-plan.block_dims // 2) * 2, _core.block), np.uint16)
        self._bounds = np.zeros((blocks, _BOUND_TERMS, _core.block), np.float32)
        kept_rows = len(rows) if plan.row_dims else 0
        self._rows = np.zeros((kept_rows, padded_rows), np.uint16)
        self._row_bounds = np.zeros((kept_rows, 2, 2), np.float32)
        self._orthogonality_error = plan.orthogonality_error
        memory = self._memory()
        for start in range(0, len(order), _ROWS):
            vectors = stored.rows(order[start : start + _ROWS])
            values, squared_norms = self.plan.coordinates(vectors, _blas)
            coordinates = _core.Coordinates(values, squared_norms, self._orthogonality_error)
            _core.pack(memory, coordinates, start)

    @classmethod
    def made(cls, stored: Stored, plan: Plan, clusters: Clusters | None = None) -> Index:
        return cls(stored, plan, clusters)

    def extended(self, stored: Stored) -> Index:
        clusters = None
        if self.clusters is not None:
            order = np.concatenate((self.clusters.order, stored.findable(self._covered, len(stored))))
            clusters = Clusters(self.clusters.centroids, order, self.clusters.starts)
        index = Index(stored, self.plan, clusters)
        index.measured, index.clusters = self.measured, self.clusters
        return index

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        parts = (self._order, self._blocks, self._bounds, self._rows, self._row_bounds)
        return sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        """How many vectors are packed."""
        return self._covered

    def explain(self) -> dict[str, Any]:
        """The plan and what was measured of it."""
        plan = self.plan
        numbers = {"block_dims": plan.block_dims, "row_dims": plan.row_dims, "omit": plan.omit}
        return {"plan": plan.name, "vectors": len(self)} | numbers | self.measured

    def search(
        self, stored: Stored, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest of the stored vectors to each of `queries` (n, dim)."""
        assert len(stored) >= self._covered
        if not len(self._rows_of):
            distances = np.full((len(queries), k), np.inf, np.float32)
            indices = np.full((len(queries), k), -1)
        else:
            distances, indices = _core.search(self._memory(), self._queries(queries), k)
            indices = np.where(indices >= 0, self._rows_of[indices], -1)
        if len(stored) > self._covered:
            tail = Stored(stored.array[self._covered :], stored.hidden[stored.hidden >= self._covered] - self._covered)
            more, which = Index(tail, self.plan).search(tail, queries, k)
            which = np.where(which >= 0, which + self._covered, -1)
            distances = np.hstack((distances, more))
            indices = np.hstack((indices, which))
            ranks = np.lexsort((np.where(indices < 0, 2**62, indices), distances), axis=1)[:, :k]
            distances, indices = (np.take_along_axis(part, ranks, 1) for part in (distances, indices))
        return distances, indices

    def audit(
        self, stored: Stored, queries: NDArray[np.float32], distances: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float]:
        return _core.audit(self._memory(), self._queries(queries), distances)

    def _memory(self) -> _core.Memory:
        return _core.Memory(
            self._array,
            self._order,
            self._blocks,
            self._bounds,
            self._rows,
            self._row_bounds,
            None if self.clusters is None else self.clusters.starts,
            self.plan.block_dims,
            self.plan.row_dims,
        )

    def _queries(self, queries: NDArray[np.float32]) -> _core.Queries:
        values, squared_norms = self.plan.coordinates(queries, _core.project)
        coordinates = _core.Coordinates(values, squared_norms, self._orthogonality_error)
        nearest = np.empty((len(queries), 0), np.int32)
        if self.clusters is not None:
            nearest = self.clusters.nearest(values, _CLUSTERS_VISITED)
        return _core.Queries(queries, coordinates, nearest, self.plan.omit)


def _blas(vectors: FloatArray, rows: FloatArray) -> FloatArray:
    return vectors @ rows.T
