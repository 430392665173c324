"""Clusters of a memory's vectors, so that a query can begin with the likeliest."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored

_DIMS = 128  # coordinates that the clusters are made in
_SIZE = 256  # vectors in a cluster, about
_MOST = 2048  # clusters
_SAMPLE = 24  # vectors for each cluster that k-means runs on
_ROUNDS = 6
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Clusters:
    """Groups of near vectors, by their first coordinates in a plan."""

    centroids: NDArray[np.float64]  #: (clusters, dims)
    order: NDArray[np.int64]  #: (n,) rows, cluster by cluster
    starts: NDArray[np.int64]  #: (clusters + 1,) where each cluster begins in `order`

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

    @functools.cached_property
    def _products(self) -> _core.Projection:
        """With the centroids."""
        centroids = self.centroids.clip(-_LARGEST, _LARGEST).astype(np.float32)
        return _core.Projection(np.zeros(centroids.shape[1]), centroids, 0.0)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def of(self, stored: Stored) -> Clusters:
        """The clusters without the rows that cannot be found."""
        findable = np.zeros(len(stored), bool)
        findable[stored.findable(0, len(stored))] = True
        kept = findable[self.order]
        if kept.all():
            return self
        counts = np.concatenate(([0], np.cumsum(kept)))
        return Clusters(self.centroids, self.order[kept], counts[self.starts])


def cluster(stored: Stored, plan: Plan, rng: np.random.Generator) -> Clusters:
    """Lloyd's k-means on the vectors' first coordinates in a plan that has a rotation."""
    assert plan.rotation is not None
    leading = plan.rotation[:_DIMS].astype(np.float32)
    center = plan.center.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 no more than the order suffers
        rows = stored.findable(0, len(stored))
        all_points = [(part - center) @ leading.T for part in stored.parts()]
        points = np.concatenate(all_points)[rows].astype(np.float32, copy=False)
        count = max(1, min(_MOST, len(points) // _SIZE))
        sample = points[rng.choice(len(points), min(len(points), _SAMPLE * count), replace=False)]
        centroids = sample[rng.choice(len(sample), count, replace=False)].copy()
        for _ in range(_ROUNDS):
            nearest = _assign(sample, centroids)
            sizes = np.bincount(nearest, minlength=count)
            filled = np.flatnonzero(sizes)
            begins = (np.cumsum(sizes) - sizes)[filled]
            sums = np.add.reduceat(sample[np.argsort(nearest, kind="stable")], begins)
            centroids[filled] = sums / sizes[filled, None]
        nearest = _assign(points, centroids)
    starts = np.concatenate(([0], np.cumsum(np.bincount(nearest, minlength=count))))
    return Clusters(centroids.astype(np.float64), rows[np.argsort(nearest, kind="stable")], starts)


def _assign(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    half = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    parts = [(half - points[i : i + 8192] @ centroids.T).argmin(axis=1) for i in range(0, len(points), 8192)]
    return np.concatenate(parts)
