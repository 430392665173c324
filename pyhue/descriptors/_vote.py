"""From vectors of images to their classes: what the exact and the approximate searches share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import vector_rows
from pyhue.density import density
from pyhue.memory import PixelMemory


def directed(vectors: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Of vectors (images, vectors, dim): those that are not all zero, at unit length (n, dim), and which.

    An all-zero vector has no direction, and is at distance 1 from every vector of unit length. Where
    activations are sparse that is nearer than most true neighbours are: a few of them in a memory become
    neighbours of everything.
    """
    rows = vector_rows(vectors.reshape(-1, vectors.shape[2]), "vectors", normalize=True)
    filled: NDArray[np.bool_] = (rows != 0).any(axis=1)
    return (rows if filled.all() else rows[filled]), filled.reshape(vectors.shape[:2])


def memory_of(rows: NDArray[np.float32]) -> PixelMemory:
    """Vectors in a memory, packed; their classes are kept outside."""
    memory = PixelMemory(rows.shape[1])
    memory.add(rows[:, None], np.zeros(len(rows), np.int64))
    memory.optimize()
    return memory


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
