"""The packed form of a memory's vectors that makes exact search fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.clusters import Clusters
from pyhue._search.growing import GrowingArray
from pyhue._search.plan import FloatArray, Plan
from pyhue._search.stored import Stored

_ROWS = 2048  # vectors packed at once
_CLUSTERS_VISITED = 2  # by each query, before the pass over the whole memory
_BOUND_TERMS = 4


class Index:
    """What `csrc/core/search.h` searches, kept in step with a growing array of vectors.

    The vectors present when the index is made are packed in the order of their clusters; later ones follow
    in the order of adding. Whatever the plan and the clusters, results are exact.
    """

    def __init__(self, stored: Stored, plan: Plan, clusters: Clusters | None = None):
        self.plan = plan
        self.clusters = clusters
        padded_blocks = -(-plan.block_dims // 2) * 2
        padded_rows = -(-plan.row_dims // 32) * 32
        self._order = GrowingArray((), np.int64)
        self._blocks = GrowingArray((padded_blocks, _core.block), np.uint16)
        self._bounds = GrowingArray((_BOUND_TERMS, _core.block), np.float32)
        self._rows = GrowingArray((padded_rows,), np.uint16)
        self._row_bounds = GrowingArray((2, 2), np.float32)
        self._orthogonality_error = plan.orthogonality_error
        self.measured: dict[str, float] = {}  #: what `optimize` found out
        self._pack(stored, np.arange(len(stored)) if clusters is None else clusters.order)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        parts = (self._order, self._blocks, self._bounds, self._rows, self._row_bounds)
        return sum(part.values.nbytes for part in parts)

    def __len__(self) -> int:
        """How many vectors are packed."""
        return len(self._order)

    def explain(self) -> dict[str, Any]:
        """The plan and what was measured of it."""
        plan = self.plan
        numbers = {"block_dims": plan.block_dims, "row_dims": plan.row_dims, "omit": plan.omit}
        return {"plan": plan.name, "vectors": len(self)} | numbers | self.measured

    def update(self, stored: Stored) -> None:
        """Packs the vectors that were added since the last call."""
        if len(stored) > len(self._order):
            self._pack(stored, np.arange(len(self._order), len(stored)))

    def search(
        self, stored: Stored, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest of the stored vectors, all of them packed, to each of `queries` (n, dim)."""
        return _core.search(self._memory(stored), self._queries(queries), k)

    def audit(
        self, stored: Stored, queries: NDArray[np.float32], distances: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float]:
        """Which stage drops each vector, (queries, n), when each query's k-th distance is known.

        0: the blocks, 1: the rows, 2: none. And how many dimensions of the blocks were read, on average.
        """
        return _core.audit(self._memory(stored), self._queries(queries), distances)

    def _memory(self, stored: Stored) -> _core.Memory:
        return _core.Memory(
            stored.array,
            self._order.values,
            self._blocks.values,
            self._bounds.values,
            self._rows.values,
            self._row_bounds.values,
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

    def _pack(self, stored: Stored, order: NDArray[np.int64]) -> None:
        first = len(self._order)
        count = -(-len(stored) // _core.block)
        self._blocks.extend(count)
        self._bounds.extend(count)
        if self.plan.row_dims:
            self._rows.extend(len(stored))
            self._row_bounds.extend(len(stored))
        memory = self._memory(stored)
        for start in range(0, len(order), _ROWS):
            vectors = stored.rows(order[start : start + _ROWS])
            values, squared_norms = self.plan.coordinates(vectors, _blas)
            coordinates = _core.Coordinates(values, squared_norms, self._orthogonality_error)
            _core.pack(memory, coordinates, first + start)
        self._order.append(order)  # last: an interrupted call leaves nothing half done


def _blas(vectors: FloatArray, rows: FloatArray) -> FloatArray:
    return vectors @ rows.T
