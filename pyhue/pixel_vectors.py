"""Feature maps as sets of pixel vectors."""

from __future__ import annotations

from typing import Any

import numpy as np


def pixel_vectors(feature_maps: Any) -> Any:
    """Feature maps (images, channels, H, W) as pixel vectors (images, H * W, channels), row by row.

    NumPy array or tensor of any dtype in, the same kind and dtype out, a view where strides allow.

    Raises:
        ValueError: `feature_maps` does not have four dimensions.

    Example:
        >>> pixel_vectors(np.zeros((2, 1280, 7, 7))).shape
        (2, 49, 1280)
    """
    maps = feature_maps if hasattr(feature_maps, "reshape") else np.asarray(feature_maps)
    if maps.ndim != 4:
        raise ValueError(f"feature_maps: expected (images, channels, H, W), got shape {tuple(maps.shape)}")
    images, channels, height, width = maps.shape
    return maps.reshape(images, channels, height * width).swapaxes(1, 2)


def image_vectors(activations: Any, dim: int) -> Any:
    """Activations (images, pixels, dim) or (images, dim, H, W) as pixel vectors (images, pixels, dim).

    Raises:
        ValueError: they have another shape.
    """
    if activations.ndim == 4 and activations.shape[1] == dim:
        return pixel_vectors(activations)
    if activations.ndim == 3 and activations.shape[2] == dim:
        return activations
    raise ValueError(
        f"activations: expected shape (images, pixels, {dim}) or (images, {dim}, H, W), "
        f"got {tuple(activations.shape)}"
    )
