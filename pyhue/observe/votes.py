"""Which pixels of an image spoke for a class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import feature_map_array, integers, positive_number
from pyhue.memory import PixelMemory
from pyhue.observe._check import image_batches
from pyhue.pixel_vectors import pixel_vectors


def votes(
    feature_maps: Any, memory: PixelMemory, labels: Any = None, k: int = 10, eps: float = 1e-8
) -> NDArray[np.float64]:
    """The share that each pixel has in the likelihood of a class.

    `PixelMemory.log_likelihood` sums votes, exp(-D_ij / a_i) of pixel i and its neighbour j. This is each
    pixel's part of the sum for one class, over the sum::

        share_i = sum_j [C_ij = C] exp(-D_ij / a_i)  /  sum_lj [C_lj = C] exp(-D_lj / a_l)

    Args:
        feature_maps: activations (images, channels, H, W), floating, not of images that the memory holds:
            these would find themselves.
        memory: what is searched.
        labels: the class of each image to look for, integers (images,). Default: what the memory predicts.
        k: neighbours of each pixel, at least 1. Default 10.
        eps: added to the squared bandwidth, positive. Default 1e-8.

    Returns:
        float64 (images, H, W), sums to 1 over an image; NaN for one that nobody votes for.

    Raises:
        TypeError, ValueError: a dtype, shape or number is wrong, a value is NaN or infinite, the memory is
            empty.

    Example:
        >>> memory = PixelMemory(2)
        >>> memory.add(np.eye(2)[:, None], [0, 1])
        >>> votes(np.array([[[[3.0, 0.1]], [[0.1, 2.0]]]]), memory, [1], k=1)
        array([[[0., 1.]]])
    """
    maps, eps = feature_map_array(feature_maps), positive_number(eps, "eps")
    wanted = None if labels is None else integers(labels, "labels")
    if wanted is not None and wanted.shape != (len(maps),):
        raise ValueError(f"labels: expected shape ({len(maps)},), one for each image, got {wanted.shape}")
    shares = np.empty((len(maps), *maps.shape[2:]))
    for batch in image_batches(len(maps)):
        classes = memory.predict(maps[batch], k, eps) if wanted is None else wanted[batch]
        distances, indices = memory.search(pixel_vectors(maps[batch]), k)
        own = (indices >= 0) & (memory.labels[indices] == classes[:, None, None])
        exponents = np.where(own, _exponents(distances.astype(np.float64), eps), -np.inf)
        with np.errstate(invalid="ignore"):
            weights = np.exp(exponents - exponents.max(axis=(1, 2), keepdims=True)).sum(axis=2)
            shares[batch] = (weights / weights.sum(axis=1, keepdims=True)).reshape(-1, *maps.shape[2:])
    return shares


def _exponents(distances: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """-D_ij / a_i, as csrc/core/density_terms.h has it; distances ascend, so the first is the nearest."""
    nearest = distances[..., :1]
    with np.errstate(invalid="ignore"):
        exponents: NDArray[np.float64] = np.maximum(-distances / (nearest + eps), np.finfo(np.float64).min)
    return np.where(np.isinf(nearest), -1.0, exponents)
