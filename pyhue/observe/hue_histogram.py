"""Activation hue of the classes' pixel vectors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import feature_map_array, positive_integer
from pyhue.hue import activation_hue
from pyhue.observe._check import checked_labels, image_batches
from pyhue.observe.circular import Directions, directions
from pyhue.pixel_vectors import pixel_vectors


class HueHistograms(NamedTuple):
    """How the hues of pixel vectors are distributed over the circle."""

    edges: NDArray[np.float64]  #: (bins + 1,), radians, -pi to pi
    density: NDArray[np.float64]  #: (num_classes, bins), share of the class's vectors; NaN without any
    overall: NDArray[np.float64]  #: (bins,), share of all vectors
    counts: NDArray[np.int64]  #: (num_classes,), vectors that have a hue
    directions: Directions  #: of each class
    overall_directions: Directions  #: of all vectors, one group
    image_vectors: NDArray[np.float64]  #: (images, 2), sum of the unit vectors at an image's hues


def hue_histograms(feature_maps: Any, labels: Any, bins: int = 36) -> HueHistograms:
    """Histograms of `pyhue.activation_hue` of every pixel vector, by class.

    All-zero vectors have no hue and are left out. The hue depends on the order of the channels, which in a
    trained network is arbitrary: angles of one network mean nothing in another, what classes share does.

    Args:
        feature_maps: activations (images, channels, H, W), floating.
        labels: non-negative integers (images,), the class of each image.
        bins: of equal width, at least 1. Default 36.

    Raises:
        TypeError, ValueError: a dtype or shape is wrong, or a label is negative.
    """
    maps = feature_map_array(feature_maps)
    classes = checked_labels(labels, len(maps))
    edges = np.linspace(-math.pi, math.pi, positive_integer(bins, "bins") + 1)
    by_image = np.empty((len(maps), bins), np.int64)
    sums = np.empty((len(maps), 2))
    for batch in image_batches(len(maps)):
        vectors = pixel_vectors(maps[batch]).astype(np.float64)
        hue, filled = activation_hue(vectors), (vectors != 0).any(axis=-1)
        sums[batch] = np.stack([(wave(hue) * filled).sum(axis=1) for wave in (np.cos, np.sin)], axis=-1)
        for row, (angles, chosen) in enumerate(zip(hue, filled, strict=True), batch.start):
            by_image[row] = np.histogram(angles[chosen], edges)[0]
    num_classes = int(classes.max()) + 1
    by_class = np.zeros((num_classes, bins), np.int64)
    np.add.at(by_class, classes, by_image)
    counts, everything, weights = by_class.sum(axis=1), by_class.sum(axis=0), by_image.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return HueHistograms(
            edges,
            by_class / counts[:, None],
            everything / everything.sum(),
            counts,
            directions(sums, weights, classes, num_classes),
            directions(sums, weights, np.zeros_like(classes), 1),
            sums,
        )
