"""Adaptive-bandwidth kernel density over nearest neighbours: equation 2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._arrays import floating, integers, like, positive_number


def densities(
    distances: NDArray[np.float32], columns: NDArray[np.int64], counts: NDArray[np.int64], eps: float
) -> NDArray[np.float64]:
    """`density` of images, with counts (classes,) for all or (images, classes) for each of them."""
    if counts.ndim == 1:
        found: NDArray[np.float64] = density(distances, columns, counts, eps)
        return found
    found = np.empty(counts.shape)
    for image, own in enumerate(counts):
        found[image] = density(distances[image], columns[image], own, eps)
    return found


def density(distances: Any, neighbor_labels: Any, class_counts: Any, eps: float = 1e-8) -> Any:
    """Class log-likelihoods of images from the neighbours of their pixel vectors.

    With D_ij the squared distance from pixel i to its neighbour j of class C_j::

        log p(C) = log( sum_ij [C_j = C] exp(-D_ij / (min_j D_ij + eps)) / class_counts[C] )

    computed in float64 and in logarithms, so that nothing underflows. The neighbours may come from any
    search; FAISS's IndexFlatL2 gives squared distances as they are needed here.

    Args:
        distances: squared Euclidean distances, (..., pixels, k), not negative; used in float32.
        neighbor_labels: class of each neighbour, integers of the same shape; -1 where there is none.
        class_counts: how many vectors of each class the memory holds, integers (num_classes,).
        eps: added to the squared bandwidth, positive. Default 1e-8.

    Returns:
        float64 (..., num_classes), -inf for a class without a neighbour; a NumPy array, or a tensor when
        `distances` is one.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: shapes differ, a label or count is out of range, a distance is negative or NaN.

    Example:
        >>> density([[0.5, 1.0]], [[0, 1]], [4, 4]).round(3)
        array([-2.386, -3.386])
    """
    d = floating(distances, "distances")
    labels = integers(neighbor_labels, "neighbor_labels")
    counts = integers(class_counts, "class_counts")
    if d.ndim < 2:
        raise ValueError(f"distances: expected shape (..., pixels, k), got {d.shape}")
    if labels.shape != d.shape:
        raise ValueError(f"neighbor_labels: expected the shape of distances {d.shape}, got {labels.shape}")
    if counts.ndim != 1 or (counts < 0).any():
        raise ValueError("class_counts: expected one dimension of non-negative integers")
    if labels.size and (labels.min() < -1 or labels.max() >= len(counts)):
        raise ValueError(
            f"neighbor_labels: expected -1 to {len(counts) - 1}, got {labels.min()} to {labels.max()}"
        )
    if (counts[labels[labels >= 0]] == 0).any():
        raise ValueError("class_counts: a class that has neighbours has count 0")
    if not (d >= 0).all():
        raise ValueError("distances: expected non-negative values, got a negative one or NaN")
    eps = positive_number(eps, "eps")
    with np.errstate(over="ignore"):
        single = d.astype(np.float32)
    pixels, k = d.shape[-2:]
    images = int(np.prod(d.shape[:-2]))
    result = _core.density(single.reshape(images, pixels, k), labels.reshape(images, pixels, k), counts, eps)
    return like(result.reshape(*d.shape[:-2], len(counts)), distances)
