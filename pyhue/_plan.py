"""How a memory is packed, chosen by measurement on a sample of its own vectors.

A plan names coordinates that keep distances and how many of them the filters read; `docs/search.md` tells
why each kind pays. Candidates are compared by the work that they leave on a sample: dimensions read for
each pair of query and vector, and what each survivor costs after that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Coordinates z = rotation (x - center), and which of them are stored."""

    name: str
    center: FloatArray | None  #: (dim,), None: zero
    rotation: FloatArray | None  #: (block_dims + row_dims, dim), orthonormal rows; None: identity
    block_dims: int  #: coordinates in blocks, read by the first filter
    row_dims: int = 0  #: coordinates in rows, read by the second; 0: no second filter
    omit: float = 0.0  #: share of a query's norm that the first filter may leave out
    orthogonality_error: float = 0.0
    estimate: dict[str, float] = field(default_factory=dict)  #: what the sample told

    def coordinates(self, vectors: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
        """Coordinates (n, block_dims + row_dims) and squared norms (n,) of vectors (n, dim)."""
        centred = vectors.astype(np.float64) if self.center is None else vectors - self.center
        squared_norms = np.einsum("ij,ij->i", centred, centred)
        return (centred if self.rotation is None else centred @ self.rotation.T), squared_norms


def mean(vectors: NDArray[np.float32]) -> FloatArray:
    """The mean vector in float64."""
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), 8192):
        total += vectors[start : start + 8192].sum(axis=0, dtype=np.float64)
    return total / max(1, len(vectors))


def plain(vectors: NDArray[np.float32]) -> Plan:
    """Centred on the mean, every coordinate read: right for small memories, and where nothing prunes."""
    return Plan("plain", mean(vectors), None, vectors.shape[1])


@dataclass(frozen=True)
class Clusters:
    """Groups of near vectors, so that a query can begin with the likeliest."""

    projection: NDArray[np.float32]  #: (dims, dim)
    centroids: NDArray[np.float32]  #: (clusters, dims)
    order: NDArray[np.int64]  #: (n,) vectors, cluster by cluster
    starts: NDArray[np.int64]  #: (clusters + 1,) where each cluster begins in `order`

    def nearest(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int32]:
        """The `count` clusters of nearest centroid for each query (n, count), nearest first."""
        count = min(count, len(self.centroids))
        scores = _scores(queries @ self.projection.T, self.centroids)
        best = np.argpartition(scores, count - 1, axis=1)[:, :count]
        ranks = np.argsort(np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, ranks, axis=1).astype(np.int32)


def _scores(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances less what depends on the point only."""
    half = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    scores: NDArray[np.float32] = half - points @ centroids.T
    return scores


def _assign(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    parts = [_scores(points[i : i + 8192], centroids).argmin(axis=1) for i in range(0, len(points), 8192)]
    return np.concatenate(parts)


def cluster(vectors: NDArray[np.float32], directions: FloatArray, seed: int = 0) -> Clusters:
    """Lloyd's k-means in the leading principal directions, about 256 vectors a cluster."""
    projection = directions[:128].astype(np.float32)
    points = np.concatenate([vectors[i : i + 8192] @ projection.T for i in range(0, len(vectors), 8192)])
    count = max(1, min(2048, len(vectors) // 256))
    rng = np.random.default_rng(seed)
    sample = points[rng.choice(len(points), min(len(points), 24 * count), replace=False)]
    centroids = sample[rng.choice(len(sample), count, replace=False)].copy()
    for _ in range(6):
        nearest = _assign(sample, centroids)
        sizes = np.bincount(nearest, minlength=count)
        order = np.argsort(nearest, kind="stable")
        filled = np.flatnonzero(sizes)
        begins = (np.cumsum(sizes) - sizes)[filled]
        centroids[filled] = np.add.reduceat(sample[order], begins) / sizes[filled, None]
    nearest = _assign(points, centroids)
    starts = np.concatenate(([0], np.cumsum(np.bincount(nearest, minlength=count))))
    return Clusters(projection, centroids, np.argsort(nearest, kind="stable"), starts)
