"""Angles of many things: their mean, how far they agree, and whether that could be chance."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Directions(NamedTuple):
    """Circular statistics of groups; NaN where a group is empty. All arrays are float64 (groups,)."""

    angle: NDArray[np.float64]  #: mean angle in radians, -pi to pi
    length: NDArray[np.float64]  #: mean resultant length, 0 (spread evenly, or balanced) to 1 (all equal)
    image_length: NDArray[np.float64]  #: the same of the images' mean angles, each image counted once
    p_value: NDArray[np.float64]  #: Rayleigh test of the images' mean angles
    images: NDArray[np.int64]  #: (groups,), how many images have an angle


def directions(sums: NDArray[Any], weights: NDArray[Any], groups: NDArray[Any], count: int) -> Directions:
    """Circular statistics of groups of images.

    What one image contributes is not independent: neighbouring pixels look alike. So the Rayleigh test gets
    one angle an image, that of the image's mean vector.

    Args:
        sums: (images, 2), sum of (cos, sin) over what each image contributes.
        weights: (images,), how much each contributes: the sum of weights of those vectors.
        groups: (images,), group of each image, 0 to count - 1.
        count: how many groups.
    """
    total = np.stack([np.bincount(groups, column, count) for column in sums.T], axis=-1)
    weight = np.bincount(groups, weights, count)
    norms = np.hypot(*sums.T)
    pointing = norms > 1e-9 * np.maximum(weights, 1e-300)  # an image whose vectors cancel has no angle
    units = sums[pointing] / norms[pointing, None]
    images = np.bincount(groups[pointing], minlength=count)
    resultant = np.hypot(*(np.bincount(groups[pointing], column, count) for column in units.T))
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.hypot(*total.T) / weight
        angle = np.where(weight > 0, np.arctan2(total[:, 1], total[:, 0]), np.nan)
        image_length = resultant / images
    return Directions(angle, length, image_length, rayleigh(image_length, images), images)


def class_share(vectors: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """How much of the variance of the images' angles their classes explain.

    The angles are points on the unit circle; the share is the sum of squares between the classes' means over
    that about the common mean. A direction that all classes have in common does not count.

    Args:
        vectors: (images, 2), the angle of each is its image's; images with a zero vector are left out.
        labels: (images,), the class of each image.

    Returns:
        The share, 0 to 1, and what labels dealt out at random have on average,
        (classes - 1) / (images - 1). NaN with fewer than two images or without variance.
    """
    norms = np.hypot(*vectors.T)
    pointing = norms > 1e-9
    units = vectors[pointing] / norms[pointing, None]
    if len(units) < 2:
        return math.nan, math.nan
    _, groups, counts = np.unique(labels[pointing], return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(groups, column) for column in units.T], axis=-1)
    mean = units.mean(axis=0)
    between = (counts[:, None] * (sums / counts[:, None] - mean) ** 2).sum()
    total = ((units - mean) ** 2).sum()
    share = float(between / total) if total > 0 else math.nan
    return share, (len(counts) - 1) / (len(units) - 1)


def rayleigh(length: Any, n: Any) -> NDArray[np.float64]:
    """p-value of the Rayleigh test: that n independent, uniform angles agree as much as these.

    With R = n * length, p = exp(sqrt(1 + 4 n + 4 (n^2 - R^2)) - (1 + 2 n)): Zar, Biostatistical Analysis,
    equation 27.4, good to about 0.001 for n >= 10.

    Args:
        length: mean resultant length of the angles, 0 to 1, (...).
        n: how many angles, (...).

    Returns:
        float64 (...), NaN where n is 0.

    Example:
        >>> rayleigh([0.1, 0.5], [20, 20]).round(4)
        array([0.8224, 0.0055])
    """
    count, mean = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(length, np.float64))
    root = np.sqrt(np.maximum(1 + 4 * count + 4 * count**2 * (1 - np.minimum(mean, 1) ** 2), 0))
    return np.where(count > 0, np.exp(root - (1 + 2 * count)), np.nan)
