"""Observation 4: where the matches of one location are, along the radius and across it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue.observe.locations import centred, unit_vectors
from pyhue.observe.matches import Matches, by_class

SMALLEST_VARIANCE = 1e-9  # below it is rounding: matches in one place have no spread, and no ratio of two


class Spread(NamedTuple):
    """Variances of the location of a match about its mean, given the location x_i that asks.

    In squared pixels, (H * W,); NaN where there is no match or, at the centre of an odd map, no radius.
    """

    radial: NDArray[np.float64]  #: along the line from the centre through x_i
    tangential: NDArray[np.float64]  #: across it


class ConditionalMaps(NamedTuple):
    """Conditional distributions of the matches of one kind."""

    density: NDArray[np.float64]  #: p(x, y | x_i), (H * W, H, W), each sums to 1; NaN without a match
    counts: NDArray[np.int64]  #: matches of each location, (H * W,)
    spread: Spread  #: of `density`
    isotropic: Spread  #: what an equally wide distribution without any preferred direction would have


class ConditionalLocations(NamedTuple):
    """p(x, y | x_i) over the images of all classes."""

    same: ConditionalMaps  #: matches in images of the same class
    other: ConditionalMaps  #: matches in images of other classes


def conditional_locations(matches: Matches, labels: Any, size: tuple[int, int]) -> ConditionalLocations:
    """Distributions of the locations of matches given the location x_i of the vector that asks.

    A map has borders, and near one even a distribution without a preferred direction is narrower across the
    border than along it. `isotropic` says what of the difference that explains: it has the matches'
    distribution over the distance ``|x - x_i|``, and no other structure,
    ``p(x | x_i) ~ g(|x - x_i|)``, g(r) = matches at distance r / pairs of locations at distance r.

    Args:
        matches: what `find_matches` found.
        labels: non-negative integers (images,), the class of each image.
        size: (H, W) of the maps.

    Raises:
        TypeError, ValueError: a dtype or shape is wrong, or a label is negative.
    """
    _, *kinds = by_class(matches, labels, size)
    places = size[0] * size[1]
    asking = np.broadcast_to(np.arange(places)[None, :, None], matches.pixels.shape)
    parts = []
    for chosen in kinds:
        pairs = np.bincount(asking[chosen] * places + matches.pixels[chosen], minlength=places**2)
        parts.append(_maps(pairs.reshape(places, places), size))
    return ConditionalLocations(*parts)


def _maps(pairs: NDArray[np.int64], size: tuple[int, int]) -> ConditionalMaps:
    """From how often each location (row) is matched by each other (column)."""
    density = _rows_to_one(pairs)
    offsets = centred(size)
    squared = ((offsets[:, None] - offsets) ** 2).sum(axis=-1)
    distances, which = np.unique(squared.round().astype(np.int64), return_inverse=True)
    which = which.reshape(squared.shape)
    asked = np.broadcast_to(pairs.sum(axis=1)[:, None], pairs.shape)
    with np.errstate(invalid="ignore"):
        rate = _sums(pairs, which, len(distances)) / _sums(asked, which, len(distances))
    isotropic = _rows_to_one(np.where(asked > 0, rate[which], 0))
    counts = pairs.sum(axis=1)
    return ConditionalMaps(
        density.reshape(-1, *size), counts, _spread(density, size), _spread(isotropic, size)
    )


def _rows_to_one(table: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = table / table.sum(axis=1, keepdims=True)
    return result


def _sums(table: NDArray[Any], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.zeros(count)
    np.add.at(sums, groups, table)
    return sums


def _spread(density: NDArray[np.float64], size: tuple[int, int]) -> Spread:
    offsets, radial = centred(size), unit_vectors(size)
    radial[(radial == 0).all(axis=1)] = np.nan
    tangential = np.stack((-radial[:, 1], radial[:, 0]), axis=-1)
    return Spread(*(_variance(density, axis @ offsets.T) for axis in (radial, tangential)))


def _variance(density: NDArray[np.float64], coordinate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of `coordinate` (n, places) under each row of `density` (n, places)."""
    mean = (density * coordinate).sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = (density * (coordinate - mean) ** 2).sum(axis=1)
    return result
