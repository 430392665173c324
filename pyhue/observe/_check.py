"""Labels at the boundary of `pyhue.observe`, and images a few at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import integers


def checked_labels(labels: Any, images: int) -> NDArray[np.int64]:
    """Class of each image, not negative, (images,)."""
    classes = integers(labels, "labels")
    if classes.shape != (images,):
        raise ValueError(f"labels: expected shape ({images},), one for each image, got {classes.shape}")
    if classes.min() < 0:
        raise ValueError(f"labels: expected non-negative integers, got {classes.min()}")
    return classes


def image_batches(images: int, size: int = 64) -> list[slice]:
    """Slices of at most `size` images: feature maps may lie in a file that is larger than memory."""
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]
