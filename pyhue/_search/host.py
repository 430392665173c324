"""Search on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import floating, like, neighbor_count
from pyhue._locks import Lock
from pyhue._rows import query_rows
from pyhue._search.certificate import Certificate, certificate
from pyhue._search.index import Agreed, Index, unmeasured
from pyhue._search.optimize import extended, optimized
from pyhue._search.selection import EVERYTHING, Selection
from pyhue._search.stored import Stored, require_queries, require_vectors
from pyhue._search.visit import first_distances, recalled, require_reach
from pyhue._search.work import Work

OPTIMIZE_FROM = 20_000  # vectors: the first search of a memory of at least so many optimises it
_PACK_AFTER = 512  # queries compared with each vector that is not packed: packing it costs as much; measured

Vectors = TypeVar("Vectors", bound=Stored)


class HostSearch:
    """Searches what a memory stores, on the CPU; any number of threads may, while one adds.

    The packed form is an index that never changes; a new one that shares its pieces takes its place. What it
    does not hold yet is searched as it is stored, so that nobody waits for packing, but for the first time;
    one of those who search packs it when it was compared so often that packing would have cost less.

    `latest`, of every method, gives the memory's vectors at the moment of the call. `first`: makes the first
    index, and another one where rows were given other numbers.
    """

    def __init__(
        self, normalize: bool, index: Index | None = None, first: Callable[[Any], Index] | None = None
    ):
        self.index = index  #: None before the first search
        self._normalize = normalize
        self._first = first or first_index
        self.last: Work | None = None  #: what the last search did; any of those at the same time
        self._packing = Lock()
        self._compared = 0  # pairs of a query and a vector that is not packed; counted roughly

    def search(
        self,
        latest: Callable[[], Stored],
        queries: Any,
        k: int,
        selection: Selection = EVERYTHING,
        recall: float | None = None,
    ) -> tuple[Any, Any]:
        """Distances and indices (..., k) of queries (..., dim), as the kind of array that these are."""
        given = floating(queries, "queries")
        dim = require_queries(given, latest().dim)
        chosen = selection.of_queries(given.shape[:-1])
        found = self.neighbors(latest, given.reshape(-1, dim), "queries", k, chosen, recall)[1:]
        shape = (*given.shape[:-1], found[0].shape[1])
        distances, indices = (like(result.reshape(shape), queries) for result in found)
        return distances, indices

    def neighbors(
        self,
        latest: Callable[[], Vectors],
        queries: NDArray[np.floating[Any]],
        name: str,
        k: int,
        selection: Selection = EVERYTHING,
        recall: float | None = None,
        kth: NDArray[np.float32] | None = None,
        agreed: Agreed | None = None,
    ) -> tuple[Vectors, NDArray[np.float32], NDArray[np.int64]]:
        """The vectors that were searched; distances and indices (n, k) of queries (n, dim).

        `recall`: a share of the true neighbours that is enough; None: all. `kth`: see `recalled`.
        `agreed`: as in `Index.counted_search`, of exact searches.
        """
        require_vectors(latest())
        k = neighbor_count(k, len(latest()))
        rows, zero = query_rows(queries, name, self._normalize)
        index, stored = self._ready(latest, len(rows))
        if recall is None:
            found = index.counted_search(stored, rows, min(k, len(stored)), selection, agreed)
        else:
            found = recalled(index, stored, rows, k, recall, selection, kth)
        distances, indices, self.last = found
        distances, indices = _padded((distances, indices), k)
        if self._normalize and zero.any():
            distances[zero], indices[zero] = np.inf, -1
        return stored, distances, indices

    def first_distances(
        self,
        latest: Callable[[], Stored],
        queries: NDArray[np.floating[Any]],
        name: str,
        k: int,
        chosen: Selection,
    ) -> NDArray[np.float32]:
        """Of queries (n, dim), what a search with a recall begins with."""
        rows, _ = query_rows(queries, name, self._normalize)
        index, stored = self._ready(latest, len(rows))
        require_reach(index)
        return first_distances(index, stored, rows, k, chosen)

    def within(
        self, latest: Callable[[], Stored], queries: Any, radius: float, selection: Selection = EVERYTHING
    ) -> tuple[Any, Any, Any]:
        """Limits (n + 1,), distances and indices, as the kind of array that `queries` (n, dim) are."""
        require_vectors(latest())
        given = floating(queries, "queries")
        dim = require_queries(given, latest().dim)
        if given.ndim != 2:
            raise ValueError(f"queries: expected shape (n, {dim}), got {given.shape}")
        chosen = selection.of_queries(given.shape[:1])
        rows, zero = query_rows(given, "queries", self._normalize)
        asking = np.flatnonzero(~zero) if self._normalize else np.arange(len(rows))
        if chosen.exclude is not None:
            chosen = replace(chosen, exclude=chosen.exclude[asking])
        index, stored = self._ready(latest, len(asking))
        some, distances, indices = index.within(stored, rows[asking], radius, chosen)
        limits = np.zeros(len(rows) + 1, np.int64)
        limits[asking + 1] = np.diff(some)
        found = np.cumsum(limits), distances, indices
        return like(found[0], queries), like(found[1], queries), like(found[2], queries)

    def certify(self, latest: Callable[[], Stored], queries: Any, k: int, sample: int) -> Certificate:
        """Of queries (..., dim), one after the other; a query of all zeros is nobody's to prove."""
        require_vectors(latest())
        given = floating(queries, "queries")
        dim = require_queries(given, latest().dim)
        k = neighbor_count(k, len(latest()))
        rows, zero = query_rows(given.reshape(-1, dim), "queries", self._normalize)
        index, stored = self._ready(latest, len(rows))
        found = certificate(index, stored, rows, k, sample)
        if self._normalize:
            found.valid[zero] = True
            found.dropped[zero] = found.compared[zero] = 0
            found.distances[zero] = found.lower_bounds[zero] = np.inf
            found.margins[zero] = np.inf
        return found

    def optimize(self, latest: Callable[[], Stored]) -> None:
        """Makes the index anew, in the form that is fastest for vectors like these."""
        require_vectors(latest())
        with self._packing.held():
            stored = latest()
            self.index = optimized(stored, stored.groups)

    def explain(self, stored: Stored) -> dict[str, Any]:
        """How vectors are packed and what the last search did; empty before the first one."""
        index = self.index
        if index is None:
            return {}
        found = index.explain()
        found["bytes_per_vector"] = stored.dim * stored.array.itemsize + index.nbytes / max(1, len(index))
        if self.last:
            found["last_search"] = self.last.shares(stored.dim)
        return found

    def ready(self, latest: Callable[[], Stored]) -> None:
        """Makes the first index, as the first search does."""
        if len(latest()):
            self._ready(latest, 0)

    def replace(self, index: Index | None) -> None:
        """Takes an index that was made elsewhere; None: the next search makes one."""
        with self._packing.held():
            self.index = index

    def _ready(self, latest: Callable[[], Vectors], queries: int) -> tuple[Index, Vectors]:
        """An index, and the vectors of one moment, of the same epoch."""
        while True:
            index = self._ready_index(latest, queries)
            stored = latest()  # after the index, which so holds nothing that came later
            if index.epoch == stored.epoch:
                return index, stored

    def _ready_index(self, latest: Callable[[], Stored], queries: int) -> Index:
        index = self.index
        if index is None or index.epoch != latest().epoch:
            with self._packing.held():
                index, stored = self.index, latest()
                if index is None or index.epoch != stored.epoch:
                    self.index = index = self._first(stored)
        if (unpacked := len(latest()) - len(index)) > 0:
            self._compared += unpacked * queries
            if self._compared >= _PACK_AFTER * unpacked:
                with self._packing.held(wait=False) as holds:
                    stored = latest()
                    if holds and self.index is not None and self.index.epoch == stored.epoch:
                        self._compared = 0
                        self.index = index = extended(self.index, stored)
        return index


def first_index(stored: Stored) -> Index:
    """The index of a memory that has none."""
    large = stored.num_findable >= OPTIMIZE_FROM
    return optimized(stored, stored.groups) if large else unmeasured(stored)


def _padded(
    found: tuple[NDArray[np.float32], NDArray[np.int64]], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """With columns of no neighbour up to the k-th."""
    more = k - found[0].shape[1]
    if not more:
        return found
    distances, indices = found
    width = ((0, 0), (0, more))
    return np.pad(distances, width, constant_values=np.inf), np.pad(indices, width, constant_values=-1)
