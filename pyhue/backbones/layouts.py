"""What networks give, as feature maps (n, C, h, w)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

#: From what a network gives to feature maps.
Layout = Callable[[Tensor], Tensor]

_EXPECTED = "expected feature maps (n, channels, height, width)"


def find_layout(output: object, prefix_tokens: int, sure: bool) -> Layout:
    """How what a network gives for one square image becomes feature maps.

    Square images have square maps: of four dimensions the two of equal length are height and width, so
    (1, C, s, s) stays as it is and (1, s, s, C), channels last, is turned. Of three dimensions,
    (1, t + s^2, C) are the tokens of a transformer: the first t, class and register tokens, are left out; a
    class token alone is no map. Numbers other than float32 become float32.

    Args:
        output: of the network, for one image.
        prefix_tokens: t.
        sure: whether (1, s, s, s) is known to have its channels first.

    Raises:
        ValueError: it is nothing of these, (1, s, s, s) and not `sure`, empty, or of no real numbers.
    """
    if not isinstance(output, Tensor):
        raise ValueError(f"{_EXPECTED}, got {type(output).__name__}; another layer may have them")
    if not output.is_floating_point():
        raise ValueError(f"{_EXPECTED} of floating-point numbers, got {output.dtype}")
    shape = tuple(output.shape)
    if 0 in shape:
        raise ValueError(f"{_EXPECTED}, got shape {shape}, in which there is nothing")
    layout = _of_shape(shape, prefix_tokens, sure)
    if output.dtype == torch.float32:  # under autocast maps stay of 16 bits
        return layout
    return lambda output: layout(output).float()


def _of_shape(shape: tuple[int, ...], prefix_tokens: int, sure: bool) -> Layout:
    if len(shape) == 4 and shape[0] == 1:
        if shape[1] == shape[2] == shape[3] > 1 and not sure:
            raise ValueError(f"nothing says which side of {shape} the channels are; take another image size")
        return _turned if shape[1] == shape[2] != shape[3] else _as_they_are
    if len(shape) == 3 and shape[0] == 1:
        side = math.isqrt(max(shape[1] - prefix_tokens, 0))
        if side > 1 and side * side == shape[1] - prefix_tokens:
            return lambda tokens: tokens[:, prefix_tokens:].mT.unflatten(2, (side, side))  # type: ignore[no-untyped-call]
        if 0 < shape[1] <= prefix_tokens:
            raise ValueError(f"{_EXPECTED}, got the class token alone; another layer may have them")
        raise ValueError(
            f"{_EXPECTED} or tokens (n, prefix + side x side, channels), got shape {shape} with a prefix of "
            f"{prefix_tokens}, which the network's attribute num_prefix_tokens sets"
        )
    raise ValueError(f"{_EXPECTED}, got shape {shape}")


def _turned(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


def _as_they_are(maps: Tensor) -> Tensor:
    return maps
