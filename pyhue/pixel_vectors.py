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
