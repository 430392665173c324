"""Every image of a memory, classified by the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyhue.density import density
from pyhue.memory import PixelMemory

_AT_ONCE = 8192  # vectors, unless one image has more


def leave_one_out(memory: PixelMemory, k: int, eps: float) -> NDArray[np.int64]:
    """The label of each image, (images,), by density over its vectors' k neighbours in other images.

    Of the k + p nearest of a vector at most p are of its own image, p the vectors of the largest image; the
    first k of the others are its neighbours. The image is missing from its class's count too.
    """
    first = np.unique(memory.images, return_index=True)[1]
    sizes = np.diff(first, append=len(memory))
    vectors = memory.vectors
    predicted = np.empty(len(first), np.int64)
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        for part in np.array_split(chosen, -(-len(chosen) * size // _AT_ONCE)):
            rows = first[part, None] + np.arange(size)
            predicted[part] = _by_others(memory, part, rows, vectors[rows], k, eps)
    return predicted


def _by_others(
    memory: PixelMemory,
    images: NDArray[np.int64],
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
    k: int,
    eps: float,
) -> NDArray[np.int64]:
    """Labels of images whose vectors (images, p, dim) are those of `rows` (images, p)."""
    size = rows.shape[1]
    distances, indices = memory.search(vectors, k + size)
    own = (memory.images[indices] == images[:, None, None]) | (indices < 0)
    distances = np.where(own, np.inf, distances)
    others = np.argsort(own, axis=2, kind="stable")[:, :, :k]
    distances, indices, own = (np.take_along_axis(of, others, axis=2) for of in (distances, indices, own))
    columns = np.where(own, -1, np.searchsorted(memory.classes, memory.labels[indices]))
    found: NDArray[np.float64] = density(distances, columns, memory.class_counts, eps)
    counted = vectors.any(axis=2).sum(axis=1) if memory.normalize else np.full(len(images), size)
    column = np.searchsorted(memory.classes, memory.labels[rows[:, 0]])
    counts = memory.class_counts[column]
    with np.errstate(divide="ignore", invalid="ignore"):
        smaller = np.log(counts / (counts - counted))  # inf where nothing else is of its class
    each = np.arange(len(images))
    found[each, column] += np.where(counts > counted, smaller, 0.0)
    return np.asarray(memory.classes[found.argmax(axis=1)])
