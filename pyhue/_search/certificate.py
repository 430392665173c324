"""The proof of a search in numbers: that no vector was dropped which could be among the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._search.index import Index
from pyhue._search.stored import Stored

_LARGEST = float(np.finfo(np.float32).max)  # what is farther is infinitely far
_PAIRS = 1 << 25  # of a query and a vector, whose bounds are looked at together


class Certificate(NamedTuple):
    """What `certify` returns, of each query; all (n,)."""

    valid: NDArray[np.bool_]
    #: whether everything below proves the answer, and what was found is right: as many different vectors as
    #: there can be, each at the distance that was told, in float64, but for the rounding of sums in float32
    distances: NDArray[np.float32]  #: squared, of the k-th nearest; +inf where there are fewer
    lower_bounds: NDArray[np.float32]  #: of the squared distances of what the filters dropped, the smallest
    dropped: NDArray[np.int64]  #: how many vectors the filters dropped
    compared: NDArray[np.int64]  #: how many they left, whose distances are computed here in float64
    margins: NDArray[np.float64]
    #: the smallest difference of a distance in float64 and what was claimed of it: of vectors of the sample,
    #: their lower bound; of those compared and not found, the k-th distance. Below 0 by more than rounding
    #: the answer is not valid.


def certificate(
    index: Index, stored: Stored, queries: NDArray[np.float32], k: int, sample: int
) -> Certificate:
    """Of queries (n, dim); `sample`: vectors whose bounds are compared with distances in float64."""
    step = max(1, _PAIRS // max(1, len(stored)))
    parts = [
        _certified(index, stored, queries[begin : begin + step], k, sample)
        for begin in range(0, max(1, len(queries)), step)
    ]
    return Certificate(*map(np.concatenate, zip(*parts, strict=True)))


def _certified(
    index: Index, stored: Stored, queries: NDArray[np.float32], k: int, sample: int
) -> Certificate:
    distances, found = index.search(stored, queries, min(k, len(stored)))
    n = len(queries)
    kth = distances[:, -1].copy() if k <= len(stored) else np.full(n, np.inf, np.float32)
    findable = stored.findable(0, len(stored))
    findable = findable[~stored.is_removed()[findable]]
    right = [
        _is_right(query, stored, findable, each, rows)
        for query, each, rows in zip(queries, distances, found, strict=True)
    ]
    valid, margins = np.array(right, bool), np.full(n, np.inf)
    lowest = np.full(n, np.inf, np.float32)
    dropped, compared = np.zeros(n, np.int64), np.zeros(n, np.int64)
    rng = np.random.default_rng(0)
    for rows, read, bounds in _audits(index, stored, queries, kth, findable):
        chosen = rng.choice(len(rows), min(sample, len(rows)), replace=False)
        for i, query in enumerate(queries):
            gone = read[i] > 0
            dropped[i] += np.count_nonzero(gone)
            compared[i] += np.count_nonzero(~gone)
            lowest[i] = min(lowest[i], bounds[i][gone].min(initial=np.inf))
            left = rows[~gone]
            left = left[~np.isin(left, found[i])]
            checked = np.concatenate((left, rows[chosen]))
            claimed = np.concatenate((np.full(len(left), min(kth[i], _LARGEST)), bounds[i][chosen]))
            margin, holds = _margin(query, stored.rows(checked), claimed)
            margins[i], valid[i] = min(margins[i], margin), valid[i] and holds
    return Certificate(valid & ((dropped == 0) | (lowest > kth)), kth, lowest, dropped, compared, margins)


def _is_right(
    query: NDArray[np.float32],
    stored: Stored,
    findable: NDArray[np.int64],
    distances: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> bool:
    """Whether different rows of those that can be found have these distances (k,), ascending, and none is
    missing."""
    count = min(len(rows), len(findable))
    distances, rows, missing = distances[:count], rows[:count], rows[count:]
    if (missing >= 0).any() or len(np.unique(rows)) < count or not np.isin(rows, findable).all():
        return False
    exact, _ = _distances(query, stored.rows(rows))
    off = np.minimum(exact, _LARGEST) - np.minimum(distances, _LARGEST)
    in_order = bool((distances[1:] >= distances[:-1]).all())
    return in_order and bool((np.abs(off) <= _sum_rounding(len(query), exact)).all())


def _margin(
    query: NDArray[np.float32], vectors: NDArray[np.float32], claimed: NDArray[np.float64]
) -> tuple[float, bool]:
    """The least of distances beyond what was claimed of them; whether none is below by more than rounding."""
    distances, squares = _distances(query, vectors)
    # The k-th distance is a sum in float32; bounds are written as float32, from coordinates in float64.
    rounding = _sum_rounding(len(query), distances) + 1e-9 * squares
    off = distances - claimed
    return float(off.min(initial=np.inf)), bool((off >= -rounding).all())


def _distances(
    query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared distances in float64, and the squared norms of both together."""
    exact = vectors.astype(np.float64)
    squares = np.einsum("ij,ij->i", exact, exact) + float(query.astype(np.float64) @ query)
    exact -= query
    return np.einsum("ij,ij->i", exact, exact), squares


def _sum_rounding(dim: int, distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the kernels' sums in float32 are off at most, underflow included (`csrc/core/bound.h`)."""
    return (dim / 32 + 8) * 2.0**-24 * distances + dim * 1e-37


def _audits(
    index: Index,
    stored: Stored,
    queries: NDArray[np.float32],
    kth: NDArray[np.float32],
    findable: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]:
    """Of each piece its rows that can be found; by query, what `Index.audit` tells of them.

    Rows that are not packed are all compared by a search: nothing of them was read, and nothing is claimed.
    """
    covered = np.zeros(len(stored), bool)
    for piece in index.pieces:
        if piece.searched(stored.array) is None or not len(piece):
            continue
        rows = findable[(findable >= piece.begin) & (findable < piece.end)]
        covered[rows] = True
        read, bounds = index.audit(stored, queries, kth, piece)
        yield rows, read[:, rows - piece.begin], bounds[:, rows - piece.begin]
    rest = findable[~covered[findable]]
    shape = len(queries), len(rest)
    yield rest, np.zeros(shape, np.int32), np.full(shape, -np.inf, np.float32)
