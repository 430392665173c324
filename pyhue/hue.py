"""Activation hue: the hue of RGB, generalised from 3 channels to N."""

import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    Vectors = TypeVar("Vectors", np.ndarray[Any, Any], Tensor)


def activation_hue(vectors: "Vectors", axis: int | None = None) -> "Vectors":
    """Return the angle of activation vectors around the medial axis (1, ..., 1).

    The axes of the N channels are spread evenly over the circle, phi_n = 2 pi n / N, and::

        hue = atan2(sum_n vectors_n sin phi_n, sum_n vectors_n cos phi_n)

    For 3 channels this is circular RGB hue, atan2(sqrt(3) (G - B), 2 R - G - B).

    Args:
        vectors: (..., N), floating; a NumPy array or a torch tensor. At N = 1 and 2 all lie on a line.
        axis: where the N channels are. Default: the last axis. Arrays of four dimensions need it: 1 for
            feature maps (images, N, H, W), -1 for (images, H, W, N).

    Returns:
        Angles in radians, in [-pi, pi], of the kind and dtype of ``vectors`` and its shape without ``axis``.
        0 where both sums are 0. 16-bit types are summed in float32.

    Raises:
        TypeError: ``vectors`` is neither a floating NumPy array nor a floating tensor, or ``axis`` is not an
            integer.
        ValueError: ``vectors`` has no channels or not that axis, or has four dimensions and ``axis`` is not
            given.

    Example:
        >>> import numpy as np
        >>> red_green_blue = np.eye(3)
        >>> np.degrees(activation_hue(red_green_blue)).round(6)
        array([   0.,  120., -120.])
        >>> activation_hue(np.zeros((2, 1280, 7, 7)), axis=1).shape
        (2, 7, 7)
    """
    torch = sys.modules.get("torch")  # whoever has a tensor has imported torch
    if torch is not None and isinstance(vectors, torch.Tensor):
        if not vectors.is_floating_point():
            raise TypeError(f"vectors: expected a floating dtype, got {vectors.dtype}")
        working = torch.promote_types(vectors.dtype, torch.float32)
        last = vectors.movedim(_channels(vectors.shape, axis), -1)
        basis = torch.from_numpy(_basis(last.shape[-1])).to(device=vectors.device, dtype=working)
        plane = last.to(working) @ basis
        hue: Vectors = torch.atan2(plane[..., 1], plane[..., 0]).to(vectors.dtype)
        return hue
    if not isinstance(vectors, np.ndarray) or not np.issubdtype(vectors.dtype, np.floating):
        found = getattr(vectors, "dtype", type(vectors))
        raise TypeError(f"vectors: expected a floating NumPy array or tensor, got {found}")
    working = np.promote_types(vectors.dtype, np.float32)
    last = np.moveaxis(vectors, _channels(vectors.shape, axis), -1)
    plane = last.astype(working, copy=False) @ _basis(last.shape[-1]).astype(working)
    return np.asarray(np.arctan2(plane[..., 1], plane[..., 0]), dtype=vectors.dtype)


def _channels(shape: tuple[int, ...], axis: int | None) -> int:
    """The axis of the channels, checked."""
    if axis is None and len(shape) == 4:
        raise ValueError(
            f"axis: expected 1 for feature maps (images, N, H, W) or -1 for (images, H, W, N), got none "
            f"with vectors of shape {tuple(shape)}"
        )
    axis = -1 if axis is None else axis
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"axis: expected an integer, got {type(axis).__name__}")
    if not shape:
        raise ValueError("vectors: expected shape (..., N) with N >= 1, got ()")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis: expected {-len(shape)} to {len(shape) - 1}, got {axis}")
    if shape[axis] == 0:
        raise ValueError(f"vectors: expected shape (..., N) with N >= 1, got {tuple(shape)}")
    return int(axis)


def _basis(channels: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, 2): cosine and sine of each channel's axis."""
    angles = np.arange(channels) * (2 * math.pi / channels)
    return np.stack((np.cos(angles), np.sin(angles)), axis=-1)
