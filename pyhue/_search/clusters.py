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

_LARGEST = float(np.finfo(np.float32).max)


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
