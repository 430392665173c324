"""Observation 3: where in the map the matches of a class are, and in which direction from its centre."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue.observe.circular import Directions, directions
from pyhue.observe.matches import Matches, by_class


class LocationMaps(NamedTuple):
    """Where the matches of one kind are."""

    density: NDArray[np.float64]  #: p(x, y), (num_classes, H, W), each sums to 1; NaN without a match
    overall: NDArray[np.float64]  #: the same over the matches of all classes, (H, W)
    counts: NDArray[np.int64]  #: matches of each class, (num_classes,)
    directions: Directions  #: of each class's matches, from the centre of the map
    overall_directions: Directions  #: of all of them, one group
    image_vectors: NDArray[np.float64]  #: (images, 2), sum of the unit vectors towards an image's matches


class MatchLocations(NamedTuple):
    """Locations of matches, by the class of the image that asks."""

    same: LocationMaps  #: matches in images of the same class
    other: LocationMaps  #: matches in images of other classes


def match_locations(matches: Matches, labels: Any, size: tuple[int, int]) -> MatchLocations:
    """Distributions p(x, y) of the locations of same-class and other-class matches, and their directions.

    A match at row y and column x lies at the angle atan2(c_y - y, x - c_x) about the centre (c_x, c_y) of the
    map: 0 is right, pi / 2 is up. The centre pixel of an odd map has no angle and is left out there.

    Args:
        matches: what `find_matches` found.
        labels: non-negative integers (images,), the class of each image.
        size: (H, W) of the maps.

    Raises:
        TypeError, ValueError: a dtype or shape is wrong, or a label is negative.
    """
    classes, *kinds = by_class(matches, labels, size)
    return MatchLocations(*(_maps(matches.pixels, chosen, classes, size) for chosen in kinds))


def unit_vectors(size: tuple[int, int]) -> NDArray[np.float64]:
    """(cos, sin) of the direction of every location from the centre, (H * W, 2); 0 at the centre."""
    offsets = centred(size)
    norms = np.hypot(*offsets.T)[:, None]
    units: NDArray[np.float64] = np.divide(offsets, norms, out=np.zeros_like(offsets), where=norms > 0)
    return units


def centred(size: tuple[int, int]) -> NDArray[np.float64]:
    """(x to the right, y upwards) of every location from the centre, in pixels, (H * W, 2)."""
    height, width = size
    y, x = np.divmod(np.arange(height * width), width)
    return np.stack((x - (width - 1) / 2, (height - 1) / 2 - y), axis=-1)


def _maps(
    pixels: NDArray[np.int32], chosen: NDArray[np.bool_], classes: NDArray[np.int64], size: tuple[int, int]
) -> LocationMaps:
    places, images = size[0] * size[1], len(classes)
    rows = np.broadcast_to(np.arange(images)[:, None, None], pixels.shape)[chosen]
    by_image = np.bincount(rows * places + pixels[chosen], minlength=images * places).reshape(images, places)
    num_classes = int(classes.max()) + 1
    by_class = np.zeros((num_classes, places), np.int64)
    np.add.at(by_class, classes, by_image)
    units = unit_vectors(size)
    sums, weights = by_image @ units, by_image @ (units != 0).any(axis=1)
    counts, everything = by_class.sum(axis=1), by_class.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return LocationMaps(
            (by_class / counts[:, None]).reshape(num_classes, *size),
            (everything / everything.sum()).reshape(size),
            counts,
            directions(sums, weights, classes, num_classes),
            directions(sums, weights, np.zeros_like(classes), 1),
            sums,
        )
