"""Descriptors that need nothing but the feature map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import feature_map_array, positive_integer, positive_number


def average(feature_maps: Any) -> NDArray[np.float32]:
    """Mean over locations: (images, channels, H, W) to float32 (images, channels)."""
    result: NDArray[np.float32] = _maps(feature_maps).mean(axis=(2, 3))
    return result


def maximum(feature_maps: Any) -> NDArray[np.float32]:
    """Maximum over locations: (images, channels, H, W) to float32 (images, channels)."""
    result: NDArray[np.float32] = _maps(feature_maps).max(axis=(2, 3))
    return result


def flatten(feature_maps: Any) -> NDArray[np.float32]:
    """All values of the map: (images, channels, H, W) to float32 (images, channels * H * W)."""
    maps = _maps(feature_maps)
    return maps.reshape(len(maps), -1)


def gem(feature_maps: Any, p: float = 3.0) -> NDArray[np.float32]:
    """Generalised mean over locations, (mean of x^p)^(1/p), between average (p = 1) and maximum.

    Radenovic, Tolias, Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, equation 3.

    Args:
        feature_maps: (images, channels, H, W); negative values count as 0.
        p: the exponent, positive. Default 3.

    Returns:
        float32 (images, channels).

    Example:
        >>> gem(np.array([[[[0.0, 2.0]]]]), p=1)
        array([[1.]], dtype=float32)
    """
    p = positive_number(p, "p")
    maps = np.maximum(_maps(feature_maps), 0)
    top = np.maximum(maps.max(axis=(2, 3), keepdims=True), np.finfo(np.float32).tiny)  # x^p stays below 1
    result: NDArray[np.float32] = ((maps / top) ** p).mean(axis=(2, 3)) ** (1 / p) * top[:, :, 0, 0]
    return result


def rmac(feature_maps: Any, levels: int = 3) -> NDArray[np.float32]:
    """Regional maximum activations: maxima over square regions, each at unit length, added up.

    At level l the regions have the side 2 min(H, W) / (l + 1), rounded down, and are spread evenly; l of them
    along the shorter side, and along the longer one so many more that neighbours overlap by about 40 %.
    Tolias, Sicre, Jegou, Particular Object Retrieval with Integral Max-Pooling of CNN Activations,
    section 3, without its whitening.

    Args:
        feature_maps: (images, channels, H, W).
        levels: L, at least 1. Default 3.

    Returns:
        float32 (images, channels).
    """
    maps = _maps(feature_maps)
    total = np.zeros(maps.shape[:2], np.float32)
    for top, left, side in regions(maps.shape[2], maps.shape[3], levels):
        region = maps[:, :, top : top + side, left : left + side].max(axis=(2, 3))
        norms = np.linalg.norm(region, axis=1, keepdims=True)
        total += np.divide(region, norms, out=np.zeros_like(region), where=norms > 0)
    return total


def regions(height: int, width: int, levels: int = 3) -> list[tuple[int, int, int]]:
    """Top, left and side of the regions of `rmac`.

    Example:
        >>> regions(7, 7, levels=2)
        [(0, 0, 7), (0, 0, 4), (0, 3, 4), (3, 0, 4), (3, 3, 4)]
    """
    short, long = min(height, width), max(height, width)
    # more[0] regions fit along the long side at level 1: the number whose overlap is nearest to 40 %
    overlaps = [1 - (long - short) / (steps * short) for steps in range(1, 7)]
    extra = 1 + int(np.argmin(np.abs(np.array(overlaps) - 0.4))) if long > short else 0
    found = []
    for level in range(1, positive_integer(levels, "levels") + 1):
        side = max(1, 2 * short // (level + 1))
        tops = _starts(height, side, level + (extra if height > width else 0))
        lefts = _starts(width, side, level + (extra if width > height else 0))
        found += [(top, left, side) for top in tops for left in lefts]
    return found


def _starts(length: int, side: int, count: int) -> list[int]:
    """Where `count` stretches of `side` begin, evenly spread over `length`."""
    return [(length - side) * index // max(1, count - 1) for index in range(count)]


def _maps(feature_maps: Any) -> NDArray[np.float32]:
    return feature_map_array(feature_maps).astype(np.float32, copy=False)
