"""From vectors of images to their classes, for searches other than PixelMemory's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._rows import query_rows
from pyhue.density import density


def directed(vectors: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Of vectors (images, vectors, dim): those that are not all zero, at unit length (n, dim), and which.

    An all-zero vector has no direction, and is at distance 1 from every vector of unit length. Where
    activations are sparse that is nearer than most true neighbours are: to a search that knows nothing of it,
    a few of them become neighbours of everything. PixelMemory and VectorMemory leave them out themselves.
    """
    rows, zero = query_rows(vectors.reshape(-1, vectors.shape[2]), "vectors", normalize=True)
    return (rows[~zero] if zero.any() else rows), ~zero.reshape(vectors.shape[:2])


def vote(
    distances: NDArray[np.floating[Any]],
    indices: NDArray[np.int64],
    classes: NDArray[np.int64],
    voting: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Classes of images by `pyhue.density`.

    Args:
        distances: squared, of the neighbours of each vector that has a vote (votes, k).
        indices: their rows in the memory, -1 where there is none (votes, k).
        classes: of the memory's rows.
        voting: which vectors of each image have a vote (images, vectors).
    """
    shape = (*voting.shape, indices.shape[1])
    labels, far = np.full(shape, -1), np.full(shape, np.inf, np.float32)
    found = indices >= 0
    labels[voting] = np.where(found, classes[indices], -1)
    far[voting] = np.where(found, np.maximum(distances, 0), np.inf)  # sums of products can fall below 0
    predicted: NDArray[np.int64] = density(far, labels, np.bincount(classes)).argmax(axis=1)
    return predicted
