"""Making clusters: k-means on a sample, and which cluster each vector of a memory is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._search.chunked import chunks_of
from pyhue._search.index import unmeasured
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored

_DIMS = 128  # coordinates that the clusters are made in
_SIZE = 256  # vectors in a cluster, about
_MOST = 2048  # clusters
_SAMPLE = 24  # vectors for each cluster that k-means runs on
_ROUNDS = 6
_PART = 16384  # vectors whose coordinates are held at once
_LARGEST = 1e17  # of a coordinate: squared distances stay finite. Beyond, no more than the order suffers


def cluster_centroids(stored: Stored, plan: Plan, rng: np.random.Generator) -> NDArray[np.float64]:
    """(clusters, dims): Lloyd's k-means on a sample's first coordinates in a plan that has a rotation."""
    rows = stored.findable(0, len(stored))
    count = max(1, min(_MOST, len(rows) // _SIZE))
    chosen = rng.choice(len(rows), min(len(rows), _SAMPLE * count), replace=False)
    sample = _points(stored, plan, rows[np.sort(chosen)])
    centroids = sample[rng.choice(len(sample), count, replace=False)].copy()
    for _ in range(_ROUNDS):
        nearest = _nearest(centroids)(sample)
        sizes = np.bincount(nearest, minlength=count)
        filled = np.flatnonzero(sizes)
        begins = (np.cumsum(sizes) - sizes)[filled]
        sums = np.add.reduceat(sample[np.argsort(nearest, kind="stable")], begins)
        centroids[filled] = sums / sizes[filled, None]
    return centroids[_neighbours_together(centroids)].astype(np.float64)


def _neighbours_together(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """An order that keeps near points near: halves by the coordinate of most variance, and so on."""
    order, parts = np.arange(len(points)), [range(len(points))]
    while parts:
        part = parts.pop()
        if len(part) > 2:
            here = order[part.start : part.stop]
            axis = points[here].var(axis=0).argmax()
            order[part.start : part.stop] = here[np.argsort(points[here, axis], kind="stable")]
            middle = part.start + len(part) // 2
            parts += [range(part.start, middle), range(middle, part.stop)]
    return order


def assigned(
    stored: Stored, plan: Plan, centroids: NDArray[np.float64], rows: range
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of some rows that can be found, cluster by cluster, and where each cluster begins in them."""
    found = stored.findable(rows.start, rows.stop)
    nearest_to, nearest = _nearest(centroids), np.empty(len(found), np.int64)
    for begin in range(0, len(found), _PART):
        part = slice(begin, begin + _PART)
        nearest[part] = nearest_to(_points(stored, plan, found[part]))
    starts = np.concatenate(([0], np.cumsum(np.bincount(nearest, minlength=len(centroids)))))
    return found[np.argsort(nearest, kind="stable")], starts


def _points(stored: Stored, plan: Plan, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The first coordinates of some rows, ascending: (n, dims)."""
    assert plan.rotation is not None
    points = np.empty((len(rows), min(_DIMS, len(plan.rotation))), np.float32)
    projection = plan.leading(points.shape[1])
    for start, chunk in chunks_of(stored.array):
        first, last = np.searchsorted(rows, (start, start + len(chunk)))
        if last > first:
            points[first:last] = projection.of_rows(chunk, rows[first:last] - start).clip(-_LARGEST, _LARGEST)
    return points


def _nearest(centroids: NDArray[np.floating[Any]]) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """Finds the nearest centroid of each point: a search like any other."""
    stored = Stored(centroids.astype(np.float32))
    index = unmeasured(stored)
    return lambda points: index.search(stored, points, 1)[1][:, 0]
