"""What the pixels of every kind of image file become: 8 bits of red, green and blue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
_ROUNDING = 1e-3  # by which numbers may miss 0 and 1: less than half of 1 / 255


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image, not yet changed, as RGB.

    A file has to say which value is white: 255 or, of 16 bits, 65,535, of which the upper 8 bits stay; the
    largest value that a PGM or a TIFF of 12 bits declares; 1 where values are floating-point numbers. Colours
    of palettes, CMYK, YCbCr and LAB are converted by Pillow without the file's colour profile. Transparency
    is dropped: the colour that is stored below it counts.

    Raises:
        ValueError: integers of 32 bits or with a sign, which do not say what is white; floating-point numbers
            outside 0 to 1.
    """
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_grey(image)).convert("RGB")
    if mode in ("P", "PA"):  # by way of RGBA: Pillow warns where a palette has transparent colours
        image = image.convert("RGBA")
    elif mode == "La":  # colours multiplied by their opacity; Pillow has no other way to undo that
        image = image.convert("LA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """8 bits of an image with more; Pillow's own conversion would clip at 255."""
    tags: Any = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "F":
        if not (np.abs(values - np.float32(0.5)) <= 0.5 + _ROUNDING).all():  # NaN is outside, too
            raise ValueError("floating-point values outside 0 to 1, so that nothing says what is white")
        values = np.rint(values * np.float32(255))
    elif image.mode != "I":
        values = values >> (tags.get(_BITS, (16,))[0] - 8)
    elif image.format == "PPM":  # whose values Pillow has scaled to 16 bits
        values = values >> 8
    else:
        raise ValueError(
            "32-bit or signed integers, of which nothing says what is white; "
            "convert them to 8 or 16 bits or to numbers from 0 to 1"
        )
    grey: NDArray[np.uint8] = values.astype(np.uint8)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey
