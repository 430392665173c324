"""The nearest pixel vectors of other images, which observations 3 and 4 are about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import feature_map_array, positive_integer
from pyhue._stderr import progress_bar
from pyhue.memory import PixelMemory
from pyhue.observe._check import checked_labels, image_batches
from pyhue.pixel_vectors import pixel_vectors

_QUERIES = 4096  # at once


class Matches(NamedTuple):
    """Nearest neighbours of every pixel vector among those of the other images, nearest first."""

    images: NDArray[np.int32]  #: (images, H * W, k), image of the neighbour; -1 where there is none
    pixels: NDArray[np.int32]  #: (images, H * W, k), its location, row * W + column; -1 where there is none


def find_matches(feature_maps: Any, k: int = 10, progress: bool = False) -> Matches:
    """The k nearest pixel vectors, of images other than its own, of every pixel vector.

    Vectors are scaled to unit length and searched exactly by `PixelMemory`, without those of their own image.
    All-zero vectors, which say nothing, have no matches and are nobody's.

    Args:
        feature_maps: activations (images, channels, H, W), floating, of two or more images.
        k: matches of each vector, at least 1. Default 10.
        progress: show a progress bar on stderr. Default False.

    Returns:
        `Matches`, -1 where fewer than k vectors of other images exist.

    Raises:
        TypeError, ValueError: a dtype, shape or `k` is wrong, or a value is NaN or infinite.

    Example:
        >>> maps = np.random.default_rng(0).random((3, 8, 2, 2))
        >>> find_matches(maps, k=5).images.shape
        (3, 4, 5)
    """
    maps = feature_map_array(feature_maps)
    found = np.empty((len(maps), 2, maps.shape[2] * maps.shape[3], positive_integer(k, "k")), np.int32)
    with progress_bar(
        desc="matches", total=len(maps), disable=None if progress else True, unit="image"
    ) as bar:
        for start, part in match_batches(maps, k):
            found[start : start + len(part)] = part
            bar.update(len(part))
    return Matches(found[:, 0], found[:, 1])


def by_class(
    matches: Matches, labels: Any, size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Classes of the images, and which matches (images, H * W, k) are of the same and which of other classes.

    Args:
        matches: what `find_matches` found.
        labels: non-negative integers (images,), the class of each image.
        size: (H, W) of the maps.

    Raises:
        TypeError, ValueError: a dtype or shape is wrong, or a label is negative.
    """
    classes = checked_labels(labels, len(matches.images))
    if matches.images.shape[1] != size[0] * size[1]:
        raise ValueError(f"size: expected H * W = {matches.images.shape[1]}, got {size}")
    found = matches.images >= 0
    same = classes[matches.images] == classes[:, None, None]
    return classes, found & same, found & ~same


def match_batches(
    maps: NDArray[np.floating[Any]], k: int, first: int = 0
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """The matches of the images from `first` on, some images at a time.

    Yields:
        The first image, and int32 (images, 2, H * W, k): image and location of each match.
    """
    images, channels, pixels = len(maps), maps.shape[1], maps.shape[2] * maps.shape[3]
    memory = PixelMemory(channels)  # row = image * pixels + pixel
    for batch in image_batches(images):
        memory.add(maps[batch], np.zeros(batch.stop - batch.start, np.int64))
    size = max(1, _QUERIES // pixels)
    for start in range(first, images, size):
        asked = maps[start : start + size]
        own = np.arange(start, start + len(asked))
        rows = memory.search(pixel_vectors(asked), min(k, len(memory)), exclude=own).indices
        found = np.full((len(asked), 2, pixels, k), -1, np.int32)
        places = np.stack((rows // pixels, rows % pixels), axis=1)
        found[..., : rows.shape[-1]] = np.where(rows[:, None] >= 0, places, -1)
        yield start, found
