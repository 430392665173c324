"""One image file to pixels."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from pyhue._arrays import positive_integer
from pyhue._text import printable
from pyhue.images._rgb import to_rgb

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


def decode_image(path: str | os.PathLike[str], size: int) -> NDArray[np.uint8]:
    """Reads an image as RGB: the square at its centre, scaled to `size` (antialiased, bilinear).

    The result is that of scaling the shorter side to `size` and cropping the longer one, but only what stays
    is scaled. A photograph is turned upright by its EXIF orientation; one whose EXIF block is damaged stays
    as it is stored. Of several pictures in a file the first is read. Transparency is dropped, of 16 bits the
    upper 8 stay, of floating-point numbers 1 is white, and colour profiles are not applied.

    Args:
        path: the file.
        size: side of the result in pixels.

    Returns:
        uint8 (3, size, size), C-contiguous.

    Raises:
        TypeError: `size` is no integer.
        ValueError: `size` is below 1; or the file cannot be read as an image, has more pixels than Pillow
            takes (178,956,970 unless `PIL.Image.MAX_IMAGE_PIXELS` is changed) or does not say which of its
            values is white, as 32-bit integers do not. The message names the file.
    """
    size = positive_integer(size, "size")
    try:
        return _decode(path, size)
    except Exception as error:  # Pillow's decoders raise a dozen types
        name, why = printable(os.fsdecode(path)), printable(_reason(error))
        raise ValueError(f"{name}: not an image that can be read: {why}") from error


def load_image(path: str | os.PathLike[str], size: int) -> NDArray[np.float32]:
    """Reads an image as :func:`decode_image` does, as float32 (3, size, size) from 0 to 1."""
    return decode_image(path, size).astype(np.float32) / np.float32(255)


def problem(path: str | os.PathLike[str]) -> str:
    """Why `decode_image` cannot read the file, whatever the size; empty when it can."""
    try:
        _decode(path, 1)
    except Exception as error:  # as there
        return _reason(error)
    return ""


def _decode(path: str | os.PathLike[str], size: int) -> NDArray[np.uint8]:
    if not os.path.getsize(path):
        raise ValueError("the file is empty")
    with Image.open(path) as file:
        file.load()
        method = _turn(file)
        image = to_rgb(file)
    if method is not None:
        image = image.transpose(method)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, _centre(*image.size, size)))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How an image becomes upright; of the EXIF block nothing else is read, and none of it written."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # what Pillow raises on a damaged block depends on the damage
        return None


def _centre(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """The box of an image that stays when it is scaled to `size` and cropped."""
    edges = []
    for side in (width, height):
        scaled = max(size, round(side * size / min(width, height)))
        start = (scaled - size) // 2
        edges.append((start * side / scaled, (start + size) * side / scaled))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without its name."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a kind that Pillow reads"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
