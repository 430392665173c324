"""The rival of `pyhue demo`: nearest neighbours in plain NumPy; and, for bench/ too, if two answers agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 256  # queries at once, so that a chunk's distances stay near the caches


def brute_force(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Indices (n, k) of the k `vectors` nearest to each of `queries`, nearest first.

    Distances are |x|^2 - 2 <q, x>, one matmul a chunk: the |q|^2 they lack changes no order.
    """
    squared_norms = np.einsum("ij,ij->i", vectors, vectors)
    indices = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _CHUNK):
        distances = squared_norms - 2 * (queries[start : start + _CHUNK] @ vectors.T)
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1)
        indices[start : start + _CHUNK] = np.take_along_axis(nearest, order, axis=1)
    return indices


def require_same_neighbors(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    found: NDArray[np.int64],
    expected: NDArray[np.int64],
    tolerance: float = 1e-5,
) -> None:
    """Raises RuntimeError unless both answers are equally near, in float64.

    Equally near up to `tolerance`: the matmul form rounds by about float32's precision times |x|^2, so it
    may order ties and near-ties its own way. For vectors of unit length.
    """
    difference = np.abs(_distances(vectors, queries, found) - _distances(vectors, queries, expected))
    if difference.max(initial=0.0) > tolerance:
        worst = int(difference.max(axis=1).argmax())
        raise RuntimeError(
            f"query {worst}: neighbours {found[worst].tolist()} differ from brute force's "
            f"{expected[worst].tolist()} by {difference.max():.3g} in squared distance"
        )


def _distances(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], indices: NDArray[np.int64]
) -> NDArray[Any]:
    """Squared distances in float64, ascending for each query."""
    result = np.empty(indices.shape)
    for column, rows in enumerate(indices.T):  # one neighbour at a time: all at once is k times the memory
        difference = queries.astype(np.float64) - vectors[rows]
        result[:, column] = np.einsum("ij,ij->i", difference, difference)
    return np.sort(result, axis=1)
