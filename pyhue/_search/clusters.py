"""Clusters of a memory's vectors, so that a query can begin with the likeliest."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.chunked import chunks_of
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored

_DIMS = 128  # coordinates that the clusters are made in
_SIZE = 256  # vectors in a cluster, about
_MOST = 2048  # clusters
_SAMPLE = 24  # vectors for each cluster that k-means runs on
_ROUNDS = 6
_LARGEST = float(np.finfo(np.float32).max)
_PART = 8192  # vectors taken at once


@dataclass(frozen=True)
class Clusters:
    """Groups of near vectors, by their first coordinates in a plan."""

    centroids: NDArray[np.float64]  #: (clusters, dims)
    order: NDArray[np.int64]  #: (n,) rows, cluster by cluster
    starts: NDArray[np.int64]  #: (clusters + 1,) where each cluster begins in `order`

    @classmethod
    def without_rows(cls, centroids: NDArray[np.float64]) -> Clusters:
        """For memories whose pieces know by themselves which rows are where."""
        return cls(centroids, np.empty(0, np.int64), np.zeros(len(centroids) + 1, np.int64))

    def nearest(self, coordinates: NDArray[np.float64], count: int) -> NDArray[np.int32]:
        """The `count` clusters of nearest centroid for each query (n, count), nearest first.

        `coordinates` (n, at least dims) are the queries' in the plan.
        """
        count = min(count, len(self.centroids))
        points = coordinates[:, : self.centroids.shape[1]].clip(-_LARGEST, _LARGEST).astype(np.float32)
        half = 0.5 * np.einsum("ij,ij->i", self.centroids, self.centroids)
        scores = half - self._products.coordinates(points).values
        best = np.argpartition(scores, count - 1, axis=1)[:, :count]
        ranks = np.argsort(np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, ranks, axis=1).astype(np.int32)

    def gaps(self, plan: Plan, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much farther each cluster's centroid is than the nearest one's (n, clusters).

        Half of the difference of squared distances, for `queries` (n, dim). NaN where a query is beyond
        what float32 products hold.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            points = plan.leading(self.centroids.shape[1]).coordinates(queries).values.astype(np.float32)
            scores = self._half_norms - self._products.coordinates(points).values
            found: NDArray[np.float64] = scores - scores.min(axis=1, keepdims=True)
        return found

    @functools.cached_property
    def _half_norms(self) -> NDArray[np.float64]:
        half: NDArray[np.float64] = 0.5 * (self.centroids**2).sum(axis=1)
        return half

    @functools.cached_property
    def _products(self) -> _core.Projection:
        """With the centroids."""
        centroids = self.centroids.clip(-_LARGEST, _LARGEST)
        return _core.Projection(np.zeros(centroids.shape[1]), centroids)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def within(self, rows: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`order` and `starts` of some rows."""
        kept = (self.order >= rows.start) & (self.order < rows.stop)
        if kept.all():
            return self.order, self.starts
        counts = np.concatenate(([0], np.cumsum(kept)))
        return self.order[kept], counts[self.starts]

    def of(self, stored: Stored) -> Clusters:
        """The clusters without the rows that cannot be found."""
        findable = np.zeros(len(stored), bool)
        findable[stored.findable(0, len(stored))] = True
        kept = findable[self.order]
        if kept.all():
            return self
        counts = np.concatenate(([0], np.cumsum(kept)))
        return Clusters(self.centroids, self.order[kept], counts[self.starts])


def cluster_centroids(stored: Stored, plan: Plan, rng: np.random.Generator) -> NDArray[np.float64]:
    """(clusters, dims): Lloyd's k-means on a sample's first coordinates in a plan that has a rotation."""
    rows = stored.findable(0, len(stored))
    count = max(1, min(_MOST, len(rows) // _SIZE))
    chosen = rows[rng.choice(len(rows), min(len(rows), _SAMPLE * count), replace=False)]
    sample = _points(stored, plan, chosen)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 no more than the order suffers
        centroids = sample[rng.choice(len(sample), count, replace=False)].copy()
        for _ in range(_ROUNDS):
            nearest = _assign(sample, centroids)
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
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = _assign(_points(stored, plan, found), centroids.astype(np.float32))
    starts = np.concatenate(([0], np.cumsum(np.bincount(nearest, minlength=len(centroids)))))
    return found[np.argsort(nearest, kind="stable")], starts


def _points(stored: Stored, plan: Plan, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The first coordinates of some rows (n, dims)."""
    assert plan.rotation is not None
    points = np.empty((len(rows), min(_DIMS, len(plan.rotation))), np.float32)
    projection = plan.leading(points.shape[1])
    for start, chunk in chunks_of(stored.array):
        here = np.flatnonzero((rows >= start) & (rows < start + len(chunk)))
        if len(here):
            points[here] = projection.of_rows(chunk, rows[here] - start)
    return points


def _assign(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    half = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    steps = range(0, max(1, len(points)), _PART)
    return np.concatenate([(half - points[i : i + _PART] @ centroids.T).argmin(axis=1) for i in steps])
