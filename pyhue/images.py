"""Folders of images: one folder for each class, and their division into parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

__all__ = ["Images", "Splits", "decode_image", "load_image", "scan_images", "splits", "stratified_folds"]

_SUFFIXES = {
    ".avif",
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}
_PARTS = ("train", "val", "test")
_SMALL = (32, 32)  # JPEG files are checked at a fraction of their size: every byte is read all the same


class Images(NamedTuple):
    """Images of some classes."""

    paths: list[Path]  #: in order of class, then of path
    labels: NDArray[np.int64]  #: (n,), indices into `classes`
    classes: list[str]  #: names of the classes, sorted
    skipped: list[tuple[Path, str]]  #: files that could not be read, each with the reason


class Splits(NamedTuple):
    """The parts of a data set; labels mean the same in all of them."""

    train: Images
    val: Images | None  #: None without a folder `val`
    test: Images | None  #: None without a folder `test`: the folds of `train` take its place


def scan_images(
    root: str | os.PathLike[str], on_error: str = "raise", classes: Sequence[str] | None = None
) -> Images:
    """Finds the images below a folder that holds one folder for each class, and checks each of them.

    Every file is decoded once, so that a damaged one is found now and not an hour into a training. Hidden
    files and folders are passed over, and so are files whose name does not end as that of an image.

    Args:
        root: the folder.
        on_error: what an image that cannot be read does: `"raise"` is an error that names the first of them
            and says how many there are, `"skip"` leaves them out and lists them in `skipped`.
        classes: names that labels index; None takes the names of the folders. A folder that is not among
            them is an error, a name without a folder is not.

    Returns:
        The images.

    Raises:
        OSError: `root` is not a folder that can be read.
        ValueError: there is no folder of a class, a class has no image that can be read, an image cannot be
            read and `on_error` is `"raise"`, or an argument is wrong.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    root = Path(root)
    found = _folders(root)
    if not found:
        raise ValueError(f"{root}: expected one folder of images for each class, found no folder")
    names = sorted(found) if classes is None else list(classes)
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise ValueError(f"{root}: {_listed(unknown)} not among the classes to train on")
    index = {name: label for label, name in enumerate(names)}
    files = [(index[name], path) for name in sorted(found) for path in _image_files(root / name)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(_problem, (path for _, path in files))
        problems = list(tqdm(checks, "reading images", len(files), unit="image", disable=None, leave=False))
    skipped = [(path, text) for (_, path), text in zip(files, problems, strict=True) if text]
    if skipped and on_error == "raise":
        path, text = skipped[0]
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise ValueError(f"{path}: not an image that can be read: {text}{more}")
    kept = sorted(pair for pair, text in zip(files, problems, strict=True) if not text)
    labels = np.array([label for label, _ in kept], np.int64)
    empty = [name for name in sorted(found) if index[name] not in labels]
    if empty:
        raise ValueError(f"{root}: no image that can be read in {_listed(empty)}")
    return Images([path for _, path in kept], labels, names, skipped)


def splits(root: str | os.PathLike[str], on_error: str = "raise") -> Splits:
    """Reads a data set that is either divided into folders `train`, `val` and `test`, or not divided.

    It counts as divided when it has a folder `train` and no other folders than these three, each with one
    folder for each class. Otherwise everything is in `train`.

    Args:
        root: the folder.
        on_error: as in :func:`scan_images`.

    Raises:
        OSError, ValueError: as in :func:`scan_images`; or there are fewer than two classes, or a class of
            `val` or `test` is not in `train`.
    """
    root = Path(root)
    found = _folders(root)
    divided = "train" in found and found <= set(_PARTS)
    train = scan_images(root / "train" if divided else root, on_error)
    if len(train.classes) < 2:
        raise ValueError(f"{root}: expected at least two classes to train on, found {_listed(train.classes)}")
    val, test = (
        scan_images(root / part, on_error, train.classes) if divided and part in found else None
        for part in _PARTS[1:]
    )
    return Splits(train, val, test)


def stratified_folds(
    labels: NDArray[np.int64], k: int, seed: int, classes: Sequence[str] | None = None
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divides images into k folds with every class in proportion, by scikit-learn's StratifiedKFold.

    Args:
        labels: classes (n,).
        k: number of folds, at least 2.
        seed: the same seed, the same folds.
        classes: names of the classes, for the error message.

    Returns:
        For each fold the indices of the other folds' images, to train on, and of its own, to test on.

    Raises:
        ValueError: k is below 2, or a class has fewer than k images.
    """
    from sklearn.model_selection import StratifiedKFold  # here: who reads images only does not need it

    if k < 2:
        raise ValueError(f"k: expected at least 2 folds, got {k}")
    values, counts = np.unique(labels, return_counts=True)
    if len(counts) and counts.min() < k:
        label = values[counts.argmin()]
        name = f"class {label}" if classes is None else f"class {classes[label]!r}"
        raise ValueError(f"{k} folds need at least {k} images of each class, {name} has {counts.min()}")
    folds = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in folds]


def decode_image(path: str | os.PathLike[str], size: int) -> NDArray[np.uint8]:
    """Reads an image as RGB, its shorter side scaled to `size` (antialiased, bilinear), its centre cropped.

    A photograph is turned upright by its EXIF orientation, transparency is dropped, and of 16 bits the upper
    8 stay.

    Args:
        path: the file.
        size: side of the result in pixels.

    Returns:
        uint8 (3, size, size), C-contiguous.

    Raises:
        ValueError: `size` is below 1, or the file cannot be read as an image; the message names it.
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1 pixel, got {size}")
    try:
        with Image.open(path) as file:
            upright = _rgb(ImageOps.exif_transpose(file))
    except Exception as error:  # Pillow's decoders raise a dozen types
        raise ValueError(f"{path}: not an image that can be read: {error}") from error
    scale = size / min(upright.size)
    width, height = (max(size, round(side * scale)) for side in upright.size)
    scaled = upright.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(scaled.crop((left, top, left + size, top + size)))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def load_image(path: str | os.PathLike[str], size: int) -> NDArray[np.float32]:
    """Reads an image as :func:`decode_image` does, as float32 (3, size, size) from 0 to 1."""
    return decode_image(path, size).astype(np.float32) / np.float32(255)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert would clip at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA"):  # by way of RGBA: Pillow warns where a palette has transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")


def _folders(root: Path) -> set[str]:
    return {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}


def _image_files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and path.is_file():
            yield path


def _problem(path: Path) -> str:
    """Why the file cannot be read as an image; empty when it can."""
    try:
        if not path.stat().st_size:
            return "the file is empty"
        with Image.open(path) as image:
            image.draft("RGB", _SMALL)
            image.load()
    except Exception as error:  # Pillow's decoders raise a dozen types
        return str(error) or type(error).__name__
    return ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
