"""Clusters of a memory's vectors, so that a query can begin with the likeliest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyhue._stored import Stored

_DIMS = 128  # leading principal directions that the clusters are made in
_SIZE = 256  # vectors in a cluster, about
_MOST = 2048  # clusters
_SAMPLE = 24  # vectors for each cluster that k-means runs on
_ROUNDS = 6


@dataclass(frozen=True)
class Clusters:
    """Groups of near vectors."""

    projection: NDArray[np.float32]  #: (dims, dim)
    centroids: NDArray[np.float32]  #: (clusters, dims)
    order: NDArray[np.int64]  #: (n,) vectors, cluster by cluster
    starts: NDArray[np.int64]  #: (clusters + 1,) where each cluster begins in `order`

    def nearest(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int32]:
        """The `count` clusters of nearest centroid for each query (n, count), nearest first."""
        count = min(count, len(self.centroids))
        scores = _scores(_project(queries, self.projection), self.centroids)
        best = np.argpartition(scores, count - 1, axis=1)[:, :count]
        ranks = np.argsort(np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, ranks, axis=1).astype(np.int32)


def cluster(stored: Stored, directions: NDArray[np.float64], rng: np.random.Generator) -> Clusters:
    """Lloyd's k-means on the vectors' coordinates in the leading `directions` (dims, dim)."""
    projection = directions[:_DIMS].astype(np.float32)
    points = np.concatenate([_project(part, projection) for part in stored.parts()])
    count = max(1, min(_MOST, len(points) // _SIZE))
    sample = points[rng.choice(len(points), min(len(points), _SAMPLE * count), replace=False)]
    centroids = sample[rng.choice(len(sample), count, replace=False)].copy()
    for _ in range(_ROUNDS):
        nearest = _assign(sample, centroids)
        sizes = np.bincount(nearest, minlength=count)
        filled = np.flatnonzero(sizes)
        begins = (np.cumsum(sizes) - sizes)[filled]
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.add.reduceat(sample[np.argsort(nearest, kind="stable")], begins)
        centroids[filled] = sums / sizes[filled, None]
    nearest = _assign(points, centroids)
    starts = np.concatenate(([0], np.cumsum(np.bincount(nearest, minlength=count))))
    return Clusters(projection, centroids, np.argsort(nearest, kind="stable"), starts)


def _scores(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances, halved, less what depends on the point only."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
        scores: NDArray[np.float32] = half - points @ centroids.T
    return scores


def _project(vectors: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates of the vectors; not finite beyond float32, which changes no more than the order."""
    with np.errstate(over="ignore", invalid="ignore"):
        points: NDArray[np.float32] = vectors @ projection.T
    return points


def _assign(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    parts = [_scores(points[i : i + 8192], centroids).argmin(axis=1) for i in range(0, len(points), 8192)]
    return np.concatenate(parts)
