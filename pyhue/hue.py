"""Activation hue: the hue of RGB, generalised from 3 channels to N."""

import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    Vectors = TypeVar("Vectors", np.ndarray[Any, Any], Tensor)


def activation_hue(vectors: "Vectors") -> "Vectors":
    """Return the angle of activation vectors around the medial axis (1, ..., 1).

    The axes of the N channels are spread evenly over the circle, phi_n = 2 pi n / N, and::

        hue = atan2(sum_n vectors_n sin phi_n, sum_n vectors_n cos phi_n)

    For 3 channels this is circular RGB hue, atan2(sqrt(3) (G - B), 2 R - G - B).

    Args:
        vectors: (..., N), floating; a NumPy array or a torch tensor. At N = 1 and 2 all lie on a line.

    Returns:
        Angles (...) in radians, in [-pi, pi], of the kind and dtype of ``vectors``. 0 where both sums are 0.
        16-bit types are summed in float32.

    Raises:
        TypeError: ``vectors`` is neither a floating NumPy array nor a floating tensor.
        ValueError: ``vectors`` has no channels.

    Example:
        >>> import numpy as np
        >>> red_green_blue = np.eye(3)
        >>> np.degrees(activation_hue(red_green_blue)).round(6)
        array([   0.,  120., -120.])
    """
    torch = sys.modules.get("torch")  # whoever has a tensor has imported torch
    if torch is not None and isinstance(vectors, torch.Tensor):
        if not vectors.is_floating_point():
            raise TypeError(f"vectors: expected a floating dtype, got {vectors.dtype}")
        working = torch.promote_types(vectors.dtype, torch.float32)
        basis = torch.from_numpy(_basis(vectors.shape)).to(device=vectors.device, dtype=working)
        plane = vectors.to(working) @ basis
        hue: Vectors = torch.atan2(plane[..., 1], plane[..., 0]).to(vectors.dtype)
        return hue
    if not isinstance(vectors, np.ndarray) or not np.issubdtype(vectors.dtype, np.floating):
        found = getattr(vectors, "dtype", type(vectors))
        raise TypeError(f"vectors: expected a floating NumPy array or tensor, got {found}")
    working = np.promote_types(vectors.dtype, np.float32)
    plane = vectors.astype(working, copy=False) @ _basis(vectors.shape).astype(working)
    return np.asarray(np.arctan2(plane[..., 1], plane[..., 0]), dtype=vectors.dtype)


def _basis(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, 2): cosine and sine of each channel's axis."""
    if not shape or shape[-1] == 0:
        raise ValueError(f"vectors: expected shape (..., N) with N >= 1, got {tuple(shape)}")
    angles = np.arange(shape[-1]) * (2 * math.pi / shape[-1])
    return np.stack((np.cos(angles), np.sin(angles)), axis=-1)
