"""The packed form of a memory's vectors that makes exact search fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.clusters import Clusters
from pyhue._search.packed import packed
from pyhue._search.plan import Plan
from pyhue._search.selection import EVERYTHING, Selection
from pyhue._search.stored import Stored

_CLUSTERS_VISITED = 2  # by each query, before the pass over the whole memory


class Index:
    """What `csrc/core/search.h` searches: the rows of a memory at some moment, packed, in pieces.

    The rows present when the index is made are one piece, in the order of their clusters. An index is never
    changed: for later rows `extended` makes another one, which shares what is there. Whatever the plan, the
    clusters and the pieces, results are exact.
    """

    def __init__(self, stored: Stored, plan: Plan, clusters: Clusters | None = None):
        self.plan = plan
        self.clusters = None if clusters is None else clusters.of(stored)
        self.measured: dict[str, Any] = {}  #: what `optimize` found out
        self.planned = len(stored)  #: how many rows there were when it was made
        self.epoch = stored.epoch  #: of the rows that it holds
        end = len(stored) if clusters is None else int(clusters.order.max(initial=-1)) + 1
        order = stored.findable(0, end) if self.clusters is None else self.clusters.order
        starts = None if self.clusters is None else self.clusters.starts
        self._pieces = (packed(stored, plan, range(end), order, starts),)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        return sum(piece.nbytes for piece in self._pieces)

    def __len__(self) -> int:
        """How many rows of the memory it covers, those that cannot be found included."""
        return self._pieces[-1].end

    def explain(self) -> dict[str, Any]:
        """The plan and what was measured of it."""
        plan = self.plan
        numbers: dict[str, Any] = {
            "block_ends": list(plan.block_ends),
            "row_begin": plan.row_begin,
            "row_ends": list(plan.row_ends),
        }
        return {"plan": plan.name, "vectors": len(self)} | numbers | self.measured

    def extended(self, stored: Stored) -> Index:
        """The index of all rows of `stored`, which begin with those of this one.

        The last pieces are packed anew together with the new rows until each piece is longer than all after
        it: there are few, and a row is packed a few times at most while the memory grows.
        """
        if len(stored) <= len(self):
            return self
        pieces, begin = list(self._pieces), len(self)
        while pieces and not pieces[-1].clustered and len(pieces[-1]) <= len(stored) - begin:
            begin = pieces.pop().begin
        rows = range(begin, len(stored))
        order = stored.findable(rows.start, rows.stop)
        pieces.append(packed(stored, self.plan, rows, order))
        longer = object.__new__(Index)
        longer.__dict__ = self.__dict__ | {"_pieces": tuple(pieces)}
        return longer

    def search(
        self, stored: Stored, queries: NDArray[np.float32], k: int, selection: Selection = EVERYTHING
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest rows of `stored`, of its epoch, to each of `queries` (n, dim).

        What is not packed is compared one by one; pieces of rows that `stored` has not yet are left out.
        """
        rows = selection.few(stored)
        pieces, layout, asked = self._searched(stored, queries, rows)
        return _core.search(pieces, layout, asked, k, selection.chosen(stored, rows))

    def within(
        self, stored: Stored, queries: NDArray[np.float32], radius: float, selection: Selection = EVERYTHING
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """The rows of `stored` up to a distance: limits (n + 1,), distances and rows, query by query."""
        rows = selection.few(stored)
        pieces, layout, asked = self._searched(stored, queries, rows)
        return _core.within(pieces, layout, asked, radius, selection.chosen(stored, rows))

    def _searched(
        self, stored: Stored, queries: NDArray[np.float32], rows: NDArray[np.int64] | None
    ) -> tuple[list[_core.Piece], _core.Layout, _core.Queries]:
        """What a search goes through; only some rows, as they are stored, if these are given."""
        if rows is not None:
            none = _core.Coordinates(np.zeros((len(queries), 1)), np.zeros(len(queries)), 0.0)
            clusters = np.empty((len(queries), 0), np.int32)
            asked = _core.Queries(queries, none, clusters)
            return [_core.Piece(stored.array, rows)], _core.Layout((1,), 1, (), np.ones(1)), asked
        there = [piece for piece in self._pieces if piece.end <= len(stored)]
        pieces = [_core.Piece(stored.array, piece.core) for piece in there]
        rest = stored.findable(there[-1].end if there else 0, len(stored))
        if len(rest):
            pieces.append(_core.Piece(stored.array, rest))
        return pieces, _core.Layout(*self.plan.layout), self._queries(queries)

    def audit(
        self, stored: Stored, queries: NDArray[np.float32], distances: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Where each vector of the first piece is dropped, when each query's k-th distance is known.

        Both (queries, n): how many coordinates were read, 0 where it is kept; and the last lower bound of its
        squared distance, -inf where it cannot be found.
        """
        piece = _core.Piece(stored.array, self._pieces[0].core)
        return _core.audit(piece, self._queries(queries), np.ascontiguousarray(distances, np.float32))

    def _queries(self, queries: NDArray[np.float32]) -> _core.Queries:
        coordinates = self.plan.projection.coordinates(queries)
        nearest = np.empty((len(queries), 0), np.int32)
        if self.clusters is not None:
            nearest = self.clusters.nearest(coordinates.values, _CLUSTERS_VISITED)
        return _core.Queries(queries, coordinates, nearest)
