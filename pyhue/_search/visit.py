"""Search with a recall: of the clusters nearest to each query only, as many as it takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.index import Index
from pyhue._search.reach import SHARES, Reach
from pyhue._search.selection import EVERYTHING, Selection
from pyhue._search.stored import Stored
from pyhue._search.work import Work, batches

Found = tuple[NDArray[np.float32], NDArray[np.int64]]

RECALLS = (0.9, 0.95, 0.99)  #: that `optimize` measures
_FIRST = 4  # clusters that every query looks into
_BATCH = 1008  # queries at once: scores of their clusters are held
_RUNS, _RUN = 140, 7  # stretches of neighbouring vectors that play the queries
_MOST = 100  # neighbours of each
_NEARER = 10  # neighbours that a stored vector may have, and a new one not: near-duplicates


class Visit:
    """A search of some queries (n, dim), in two steps: `near`, then `far` with the k-th distances found.

    Both return distances and rows (n, k). What is in no cluster is searched in both: vectors that were added
    since the memory was packed. Which clusters a query visits depends on the query, its k-th distance and the
    index alone, and is the same bit for bit at every instruction-set level.
    """

    def __init__(self, index: Index, stored: Stored, queries: NDArray[np.float32], selection: Selection):
        assert index.clusters is not None
        self._pieces, self._layout, ask = index.searched(stored, len(queries), None)
        self._asked = ask(queries)
        self._chosen = selection.chosen(stored, None)
        self.gaps = index.clusters.gaps(index.plan, queries)  #: (n, clusters)
        count = min(_FIRST, self.gaps.shape[1])
        self._first = np.partition(self.gaps, count - 1, axis=1)[:, count - 1].copy()
        self.work = Work(len(queries), 0, 0, 0, 0)

    def near(self, k: int) -> Found:
        """Of the nearest clusters."""
        unlimited = np.full(len(self._first), np.inf, np.float32)
        return self._search(k, self._first, unlimited)

    def far(self, k: int, limits: NDArray[np.float64], distances: NDArray[np.float32]) -> Found:
        """Of the clusters up to some gap (n,), the first included; `distances` (n,): the k-th of `near`."""
        return self._search(k, np.maximum(limits, self._first), distances)

    def _search(self, k: int, limits: NDArray[np.float64], distances: NDArray[np.float32]) -> Found:
        visits = _core.Visits(self.gaps, limits, np.ascontiguousarray(distances))
        found = _core.search_visited(self._pieces, self._layout, self._asked, k, visits, self._chosen)
        self.work = self.work.plus(Work(0, *found[2]))
        return found[0], found[1]


def require_reach(index: Index) -> Reach:
    """What was measured of the index; ValueError that says why there is nothing."""
    if index.clusters is None:
        why = (
            "it is too small, or filters gain nothing with its vectors"
            if index.measured
            else "it is too small"
        )
        raise ValueError(f"recall: the memory has no clusters to choose from: {why}; leave it out")
    if index.reach is None:
        raise ValueError("recall: it was not measured for this memory; call optimize(), or leave it out")
    return index.reach


def recalled(
    index: Index,
    stored: Stored,
    queries: NDArray[np.float32],
    k: int,
    recall: float,
    selection: Selection = EVERYTHING,
    kth: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], Work]:
    """As `Index.counted_search`, for a recall.

    `kth` (n,): the k-th distances that the first clusters gave, where `stored` is a part of what is searched.

    Raises:
        ValueError: it was not measured, or does not pay.
    """
    if kth is None and selection.few(stored, len(queries)) is not None:
        return index.counted_search(stored, queries, min(k, len(stored)), selection)
    reach = require_reach(index)
    reach.limits(np.empty(0, np.float32), k, recall)  # whether it is possible
    found, work, count = [], Work(0, 0, 0, 0, 0), min(k, len(stored))
    for batch in batches(len(queries), _BATCH):
        visit = Visit(index, stored, queries[batch], selection.of_some(batch))
        distances = visit.near(count)[0][:, -1] if kth is None else kth[batch]
        found.append(visit.far(count, reach.limits(distances, k, recall), distances))
        work = work.plus(visit.work)
    distances, indices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return distances, indices, work


def first_distances(
    index: Index, stored: Stored, queries: NDArray[np.float32], k: int, selection: Selection
) -> NDArray[np.float32]:
    """The distances (n, k) that the first clusters of each query give."""
    visits = (
        Visit(index, stored, queries[batch], selection.of_some(batch))
        for batch in batches(len(queries), _BATCH)
    )
    return np.concatenate([visit.near(min(k, len(stored)))[0] for visit in visits])


def measure(index: Index, stored: Stored, rng: np.random.Generator) -> Reach | None:
    """Lets some stored vectors play the queries, without their own group; None where there are too few.

    Each does so twice: as it is, and as if its nearest were not stored. For where images are stored several
    times, nearly, a stored vector has those beside it, and a new one has not. What it finds goes into
    `index.measured`, too.
    """
    rows = _sample(stored, rng)
    if index.clusters is None or not len(rows):
        return None
    queries = stored.rows(rows)
    selection = Selection(exclude=stored.groups[rows])
    true = index.search(stored, queries, min(_MOST + _NEARER, len(stored)), selection)[1]
    count = int((true >= 0).sum(axis=1).min())
    if not count:
        return None
    without = (0, _NEARER) if count > _NEARER else (0,)
    k = min(_MOST, count - without[-1])
    visit = Visit(index, stored, queries, selection)
    of, sizes = _clusters_of(index, len(stored))
    order = np.argsort(visit.gaps, axis=1, kind="stable")
    held = np.cumsum(sizes[order], axis=1) / sizes.sum()
    steps = np.arange(SHARES + 1) / SHARES
    ends = [np.searchsorted(each, steps) for each in held]
    spread = np.take_along_axis(
        np.take_along_axis(visit.gaps, order, axis=1), np.minimum(ends, held.shape[1] - 1), axis=1
    )
    gaps = np.take_along_axis(visit.gaps, of[true[:, :count]], axis=1)
    near = visit.near(count)
    reach = Reach(
        np.concatenate([_near_without(*near, true[:, :nearer], k) for nearer in without]),
        np.concatenate([gaps[:, nearer : nearer + k] for nearer in without]),
        np.tile(spread, (len(without), 1)),
    )
    index.measured |= _told(index, stored, queries, selection, reach)
    return reach


def _told(
    index: Index, stored: Stored, queries: NDArray[np.float32], selection: Selection, reach: Reach
) -> dict[str, Any]:
    """What `explain` tells: recall of each half of the queries by the other half's table, and costs."""
    k, count = min(10, reach.most), len(queries)
    half = np.arange(len(reach.near)) % count // _RUN % 2 == 0
    as_it_is = np.arange(len(reach.near)) < count
    begin = time.perf_counter()
    index.search(stored, queries, k, selection)
    told: dict[str, list[float]] = {
        "recalls": [],
        "recall_found": [],
        "recall_read": [],
        "recall_seconds": [],
    }
    seconds = time.perf_counter() - begin
    for recall in RECALLS:
        reached = []
        for one, other in ((half, ~half & as_it_is), (~half, half & as_it_is)):
            try:
                limits = reach.part(one).limits(reach.near[other, k - 1], k, recall)
            except ValueError:
                break
            reached.append(reach.gaps[other, :k] <= limits[:, None])
        else:
            begin = time.perf_counter()
            visit = Visit(index, stored, queries, selection)
            near = visit.near(k)[0][:, -1]
            visit.far(k, reach.limits(near, k, recall), near)
            told["recalls"].append(recall)
            told["recall_found"].append(float(np.concatenate(reached).mean()))
            told["recall_read"].append(visit.work.pairs / (count * len(stored)))
            told["recall_seconds"].append((time.perf_counter() - begin) / count)
    return told | {"exact_seconds": seconds / count}


def _near_without(
    distances: NDArray[np.float32], rows: NDArray[np.int64], left_out: NDArray[np.int64], k: int
) -> NDArray[np.float32]:
    """The first k of distances (n, any), ascending, but for those of some rows (n, any); +inf: fewer."""
    gone = (rows[:, :, None] == left_out[:, None, :]).any(axis=2)
    return np.sort(np.where(gone, np.inf, distances), axis=1)[:, :k].astype(np.float32)


def _sample(stored: Stored, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows that can be found, stretches of neighbouring ones."""
    gone = stored.is_removed()
    gone[stored.hidden] = True
    rows = np.flatnonzero(~gone)
    starts = rng.integers(0, max(1, len(rows) - _RUN), _RUNS)
    places = (starts[:, None] + np.arange(_RUN)).ravel()
    chosen: NDArray[np.int64] = rows[places[places < len(rows)]]
    return chosen


def _clusters_of(index: Index, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cluster of each row, and how many rows each has."""
    assert index.clusters is not None
    clusters = np.arange(len(index.clusters.centroids))
    of, sizes = np.zeros(count, np.int64), np.zeros(len(clusters), np.int64)
    for piece in index.pieces:
        order, starts = piece.arrays[0], piece.arrays[-1]
        if starts is not None:
            of[piece.begin + order] = np.repeat(clusters, np.diff(starts))
            sizes += np.diff(starts)
    return of, sizes
