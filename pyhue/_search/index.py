"""The packed form of a memory's vectors that makes exact search fast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.chunked import chunk_with, chunks_of
from pyhue._search.clusters import Clusters
from pyhue._search.packed import PackedPiece, packed
from pyhue._search.plan import Plan, mean, plain, sample_of
from pyhue._search.reach import Reach
from pyhue._search.selection import EVERYTHING, Selection, pays_to_pack
from pyhue._search.stored import Stored
from pyhue._search.work import Work, batches

#: Distances (n, k) of near vectors here, to limits (n,) for all who search.
Agreed: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Coordinates of some queries, and their nearest clusters.
Asking: TypeAlias = Callable[[NDArray[np.float32]], _core.Queries]

_CLUSTERS_VISITED = 2  # by each query, before the pass over the whole memory
_BATCH = 4 * 1008  # queries whose coordinates are held at once: some passes of `csrc/core/tiles.h`


class Index:
    """What `csrc/core/search.h` searches: the rows of a memory at some moment, packed, in pieces.

    The rows present when the index is made are a piece for each chunk that they lie in, each in the order of
    the clusters. An index is never changed: for later rows `extended` makes another one, which shares what is
    there. Whatever the plan, the clusters and the pieces, results are exact.
    """

    def __init__(self, stored: Stored, plan: Plan, clusters: Clusters | None = None):
        self.plan = plan
        self.clusters = None if clusters is None else clusters.of(stored)
        self.measured: dict[str, Any] = {}  #: what `optimize` found out
        self.reach: Reach | None = None  #: the same of recalls
        self._channels: Plan | None = None
        self.planned = len(stored)  #: how many rows there were when it was made
        self.epoch = stored.epoch  #: of the rows that it holds
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
        reach: Reach | None = None,
    ) -> Index:
        """An index of pieces that are packed, in the order of their rows."""
        index = object.__new__(cls)
        index.plan, index.clusters, index.measured, index.epoch = plan, clusters, measured, epoch
        index._pieces, index.reach, index._channels = tuple(pieces), reach, None
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
            pieces.append(packed(stored, self.plan, rows, order))
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
        self, stored: Stored, queries: NDArray[np.float32], k: int, selection: Selection = EVERYTHING
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest rows of `stored`, of its epoch, to each of `queries` (n, dim): distances and rows.

        What is not packed is compared one by one; pieces of rows that `stored` has not yet are left out.
        """
        return self.counted_search(stored, queries, k, selection)[:2]

    def counted_search(
        self,
        stored: Stored,
        queries: NDArray[np.float32],
        k: int,
        selection: Selection = EVERYTHING,
        agreed: Agreed | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], Work]:
        """The same, and what was done.

        `agreed`, where other vectors are searched elsewhere: limits (n,) from what is near here; farther
        vectors are not wanted.
        """
        rows = selection.few(stored, len(queries))
        pieces, layout, ask = self.searched(stored, len(queries), rows)

        @functools.lru_cache(maxsize=1)  # one batch is asked twice where others agree
        def searched(
            begin: int,
        ) -> tuple[list[_core.Piece], _core.Layout, _core.Queries, int, _core.Chosen | None]:
            batch = slice(begin, begin + _BATCH)
            return pieces, layout, ask(queries[batch]), k, selection.of_some(batch).chosen(stored, rows)

        n = len(queries)
        limits, work = None, Work(n, 0, 0, 0, 0)
        if agreed:
            near = [_core.near_distances(*searched(batch.start)) for batch in batches(n, _BATCH)]
            limits = agreed(np.concatenate(near))
        distances, indices = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
        for batch in batches(n, _BATCH):
            found = _core.search(*searched(batch.start), None if limits is None else limits[batch])
            distances[batch], indices[batch] = found[:2]
            work = work.plus(Work(0, *found[2]))
        return distances, indices, work

    def within(
        self, stored: Stored, queries: NDArray[np.float32], radius: float, selection: Selection = EVERYTHING
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """The rows of `stored` up to a distance: limits (n + 1,), distances and rows, query by query."""
        rows = selection.few(stored, len(queries))
        pieces, layout, ask = self.searched(stored, len(queries), rows)
        counts, *found = zip(
            *(
                _core.within(
                    pieces, layout, ask(queries[batch]), radius, selection.of_some(batch).chosen(stored, rows)
                )
                for batch in batches(len(queries), _BATCH)
            ),
            strict=True,
        )
        limits = np.cumsum(np.concatenate([[0], *map(np.diff, counts)]), dtype=np.int64)
        return limits, np.concatenate(found[0]), np.concatenate(found[1])

    def searched(
        self, stored: Stored, queries: int, rows: NDArray[np.int64] | None
    ) -> tuple[list[_core.Piece], _core.Layout, Asking]:
        """What a search of so many queries goes through; only some rows, if these are given."""
        if rows is not None:
            return self._searched_alone(stored, queries, rows)
        found = (piece.searched(stored.array) for piece in self._pieces)
        pieces = [piece for piece in found if piece is not None]
        for missing in self._missing(stored):
            pieces += _as_stored(stored, stored.findable(missing.start, missing.stop))
        return pieces, self.plan.core_layout, self._queries

    def audit(
        self,
        stored: Stored,
        queries: NDArray[np.float32],
        distances: NDArray[np.float32],
        piece: PackedPiece | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Where each vector of a piece, by default the first, is dropped when the k-th distances are known.

        Both (queries, n): how many coordinates were read, 0 where it is kept; and the last lower bound of its
        squared distance, -inf where it cannot be found.
        """
        searched = (piece or self._pieces[0]).searched(stored.array)
        assert searched is not None  # there are vectors
        return _core.audit(searched, self._queries(queries), np.ascontiguousarray(distances, np.float32))

    def _searched_alone(
        self, stored: Stored, queries: int, rows: NDArray[np.int64]
    ) -> tuple[list[_core.Piece], _core.Layout, Asking]:
        """Some rows, packed for this search where that pays."""
        if not pays_to_pack(queries):
            layout = _core.Layout((1,), 1, (), np.ones(1))
            return _as_stored(stored, rows), layout, _without_coordinates
        plan, pieces = self._plain(stored), []
        for start, chunk, here in _by_chunk(stored, rows):
            piece = packed(stored, plan, range(start, start + len(chunk)), here)
            pieces.append(_core.Piece(chunk, piece.core, start))
        return pieces, plan.core_layout, functools.partial(_with_coordinates, plan)

    def _plain(self, stored: Stored) -> Plan:
        """A plan for which vectors are packed fast."""
        if self.plan.rotation is None:
            return self.plan
        if self._channels is None:
            self._channels = plain(self.plan.center, sample_of(stored))
        return self._channels

    def _first_piece(self, stored: Stored, rows: range) -> PackedPiece:
        if self.clusters is None:
            order, starts = stored.findable(rows.start, rows.stop), None
        else:
            order, starts = self.clusters.within(rows)
        return packed(stored, self.plan, rows, order, starts)

    def _missing(self, stored: Stored) -> list[range]:
        """Rows of `stored` that no piece of it covers, cut where chunks end; those in front first."""
        found, begin = [], 0
        for piece in self._pieces:
            if chunk_with(stored.array, piece.begin, piece.end) is not None:
                found += _cut(stored, begin, piece.begin)
                begin = piece.end
        return found + _cut(stored, begin, len(stored))

    def _queries(self, queries: NDArray[np.float32]) -> _core.Queries:
        if self.clusters is None:
            return _with_coordinates(self.plan, queries)
        coordinates = self.plan.projection.coordinates(queries)
        nearest = self.clusters.nearest(coordinates.values, _CLUSTERS_VISITED)
        return _core.Queries(queries, coordinates, nearest)


def unmeasured(stored: Stored) -> Index:
    """An index by a plan that needs no measurement."""
    return Index(stored, plain(mean(stored), sample_of(stored)))


def _with_coordinates(plan: Plan, queries: NDArray[np.float32]) -> _core.Queries:
    nearest = np.empty((len(queries), 0), np.int32)
    return _core.Queries(queries, plan.projection.coordinates(queries), nearest)


def _without_coordinates(queries: NDArray[np.float32]) -> _core.Queries:
    n = len(queries)
    none = _core.Coordinates(np.zeros((n, 1)), np.zeros(n), 0.0)
    return _core.Queries(queries, none, np.empty((n, 0), np.int32))


def _as_stored(stored: Stored, rows: NDArray[np.int64]) -> list[_core.Piece]:
    """Some rows, ascending, that are not packed: a piece for each chunk that has any."""
    return [_core.Piece(chunk, here - start, start) for start, chunk, here in _by_chunk(stored, rows)]


def _by_chunk(
    stored: Stored, rows: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.int64]]]:
    """Each chunk that has any of some rows, ascending: its first row, its vectors, and those rows."""
    for start, chunk in chunks_of(stored.array):
        first, last = np.searchsorted(rows, (start, start + len(chunk)))
        if last > first:
            yield start, chunk, rows[first:last]


def _cut(stored: Stored, begin: int, end: int) -> list[range]:
    """Rows `begin` to `end` - 1, cut where chunks end."""
    if begin == end:
        return []
    cut = [range(max(begin, start), min(end, start + len(chunk))) for start, chunk in chunks_of(stored.array)]
    return [rows for rows in cut if rows]
