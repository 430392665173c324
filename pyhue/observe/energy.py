"""Observation 1: where in the map the energy is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import feature_map_array
from pyhue.observe._check import checked_labels, image_batches


class EnergyMaps(NamedTuple):
    """Energy E(x, y) = ||I(x, y)||^2, averaged."""

    classes: NDArray[np.float64]  #: (num_classes, H, W), mean over the class's images; NaN without any
    overall: NDArray[np.float64]  #: (H, W), mean over all images
    radius: NDArray[np.float64]  #: (radii,), distances from the centre that occur, in pixels, ascending
    profile: NDArray[np.float64]  #: (radii,), mean energy at each


def energy_maps(feature_maps: Any, labels: Any) -> EnergyMaps:
    """Energy of every location, E(x, y) = ||I(x, y)||^2 over channels, averaged over images by class.

    Args:
        feature_maps: activations (images, channels, H, W), floating.
        labels: non-negative integers (images,), the class of each image.

    Returns:
        `EnergyMaps`, with num_classes the largest label plus one.

    Raises:
        TypeError, ValueError: a dtype or shape is wrong, or a label is negative.

    Example:
        >>> maps = np.zeros((1, 2, 1, 2))
        >>> maps[0, :, 0, 1] = 3, 4
        >>> energy_maps(maps, [0]).overall
        array([[ 0., 25.]])
    """
    maps = feature_map_array(feature_maps)
    classes = checked_labels(labels, len(maps))
    energy = np.empty((len(maps), *maps.shape[2:]))
    for batch in image_batches(len(maps)):
        wide: NDArray[np.floating[Any]] = maps[batch].astype(
            np.float32 if maps.dtype == np.float16 else np.float64
        )
        energy[batch] = np.einsum("nchw,nchw->nhw", wide, wide)
    totals = np.zeros((classes.max() + 1, *energy.shape[1:]))
    np.add.at(totals, classes, energy)
    counts = np.bincount(classes)[:, None, None]
    overall = energy.mean(axis=0)
    with np.errstate(invalid="ignore"):
        return EnergyMaps(totals / counts, overall, *_profile(overall))


def _profile(energy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in energy.shape)
    radius, ring = np.unique(np.hypot(*np.meshgrid(rows, columns, indexing="ij")), return_inverse=True)
    ring = ring.ravel()
    return radius, np.bincount(ring, energy.ravel()) / np.bincount(ring)
