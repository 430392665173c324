"""The packed form of a memory's vectors that makes exact search fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.chunked import chunk_with, chunks_of
from pyhue._search.clusters import Clusters
from pyhue._search.packed import PackedPiece, packed
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored

_CLUSTERS_VISITED = 2  # by each query, before the pass over the whole memory


class Index:
    """What `csrc/core/search.h` searches: the rows of a memory at some moment, packed, in pieces.

    The rows present when the index is made are a piece for each chunk that they lie in, each in the order of
    the clusters. An index is never changed: for later rows `extended` makes another one, which shares what is
    there. Whatever the plan, the clusters and the pieces, results are exact.
    """

    def __init__(self, stored: Stored, plan: Plan, clusters: Clusters | None = None):
        self.plan = plan
        self.clusters = None if clusters is None else clusters.of(stored)
        self.measured: dict[str, float] = {}  #: what `optimize` found out
        self.planned = len(stored)  #: how many rows there were when it was made
        self.epoch = stored.epoch  #: which numbers rows had then
        self._orthogonality_error = plan.orthogonality_error
        end = len(stored) if clusters is None else int(clusters.order.max(initial=-1)) + 1
        chunks = _cut(stored, 0, end) or [range(0)]
        self._pieces = tuple(self._first_piece(stored, rows) for rows in chunks)

    @classmethod
    def of(
        cls,
        plan: Plan,
        clusters: Clusters | None,
        measured: dict[str, float],
        pieces: Iterable[PackedPiece],
        epoch: int,
    ) -> Index:
        """An index of pieces that are packed, in the order of their rows."""
        index = object.__new__(cls)
        index.plan, index.clusters, index.measured, index.epoch = plan, clusters, measured, epoch
        index._orthogonality_error = plan.orthogonality_error
        index._pieces = tuple(pieces)
        index.planned = len(index)
        return index

    @property
    def pieces(self) -> tuple[PackedPiece, ...]:
        """In the order of their rows."""
        return self._pieces

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        return sum(piece.nbytes for piece in self._pieces)

    def __len__(self) -> int:
        """How many rows of the memory it covers, those that cannot be found included."""
        return sum(len(piece) for piece in self._pieces)

    def explain(self) -> dict[str, Any]:
        """The plan and what was measured of it."""
        plan = self.plan
        numbers: dict[str, Any] = {
            "block_dims": plan.block_dims,
            "block_dtype": "bfloat16" if plan.steps is None else "int8",
            "row_dims": plan.row_dims,
            "omit": plan.omit,
        }
        return {"plan": plan.name, "vectors": len(self)} | numbers | self.measured

    def extended(self, stored: Stored) -> Index:
        """The index of all rows of `stored`, which begin with those of this one.

        The last pieces are packed anew together with the new rows until each piece is longer than all after
        it: there are few, and a row is packed a few times at most while the memory grows.
        """
        array = stored.array
        pieces = [piece for piece in self._pieces if chunk_with(array, piece.begin, piece.end) is not None]
        for missing in self._missing(stored):
            begin = missing.start
            while (
                pieces
                and pieces[-1].end == begin
                and not pieces[-1].clustered
                and len(pieces[-1]) <= missing.stop - begin
                and chunk_with(array, pieces[-1].begin, missing.stop) is not None
            ):
                begin = pieces.pop().begin
            order = stored.findable(begin, missing.stop)
            rows = range(begin, missing.stop)
            pieces.append(packed(stored, self.plan, self._orthogonality_error, rows, order))
        return self.with_pieces(sorted(pieces, key=lambda piece: piece.begin))

    def whole_clusters(self) -> Clusters | None:
        """The clusters with the rows of all pieces that are in their order."""
        pieces = [piece for piece in self._pieces if piece.clustered]
        if self.clusters is None or not pieces:
            return None
        clusters = np.arange(len(self.clusters.centroids))
        of = np.concatenate([np.repeat(clusters, np.diff(piece.arrays[-1])) for piece in pieces])
        rows = np.concatenate([piece.arrays[0] + piece.begin for piece in pieces])
        starts = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=len(clusters)))))
        return Clusters(self.clusters.centroids, rows[np.argsort(of, kind="stable")], starts)

    def with_pieces(self, pieces: Iterable[PackedPiece]) -> Index:
        """The same with other pieces."""
        other = object.__new__(Index)
        other.__dict__ = self.__dict__ | {"_pieces": tuple(pieces)}
        return other

    def search(
        self, stored: Stored, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest rows of `stored` to each of `queries` (n, dim).

        What is not packed is compared one by one; pieces of rows that `stored` has not yet are left out.
        """
        found = (piece.searched(stored.array) for piece in self._pieces)
        pieces = [piece for piece in found if piece is not None]
        for rows in self._missing(stored):
            order = stored.findable(rows.start, rows.stop) - rows.start
            if len(order):
                vectors = stored.array[rows.start : rows.stop]  # of one chunk: a view
                pieces.append(_core.Piece(vectors, order, rows.start))
        return _core.search(pieces, _core.Layout(*self.plan.layout), self._queries(queries), k)

    def audit(
        self, stored: Stored, queries: NDArray[np.float32], distances: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float]:
        """Which filter drops each vector of the first piece, when each query's k-th distance is known.

        (queries, n), 0: the blocks, 1: the rows, 2: none. And how many dimensions of the blocks were read, on
        average.
        """
        piece = self._pieces[0].searched(stored.array)
        assert piece is not None  # there are vectors
        return _core.audit(piece, self._queries(queries), np.ascontiguousarray(distances, np.float32))

    def _first_piece(self, stored: Stored, rows: range) -> PackedPiece:
        if self.clusters is None:
            order, starts = stored.findable(rows.start, rows.stop), None
        else:
            order, starts = self.clusters.within(rows)
        return packed(stored, self.plan, self._orthogonality_error, rows, order, starts)

    def _missing(self, stored: Stored) -> list[range]:
        """Rows of `stored` that no piece of it covers, cut where chunks end; those in front first."""
        found, begin = [], 0
        for piece in self._pieces:
            if chunk_with(stored.array, piece.begin, piece.end) is not None:
                found += _cut(stored, begin, piece.begin)
                begin = piece.end
        return found + _cut(stored, begin, len(stored))

    def _queries(self, queries: NDArray[np.float32]) -> _core.Queries:
        values, squared_norms = self.plan.coordinates(queries, _core.project)
        coordinates = _core.Coordinates(values, squared_norms, self._orthogonality_error)
        nearest = np.empty((len(queries), 0), np.int32)
        if self.clusters is not None:
            nearest = self.clusters.nearest(values, _CLUSTERS_VISITED)
        return _core.Queries(queries, coordinates, nearest, self.plan.omit)


def _cut(stored: Stored, begin: int, end: int) -> list[range]:
    """Rows `begin` to `end` - 1, cut where chunks end."""
    cut = [range(max(begin, start), min(end, start + len(chunk))) for start, chunk in chunks_of(stored.array)]
    return [rows for rows in cut if rows]
