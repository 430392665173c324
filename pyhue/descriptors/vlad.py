"""VLAD: how the pixel vectors of an image differ from the words of a vocabulary."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin

from pyhue._arrays import feature_map_array, positive_integer
from pyhue._rows import vector_rows
from pyhue.pixel_vectors import pixel_vectors

_BATCH = 64  # images at once
_SAMPLE = 20_000  # pixel vectors that the vocabulary is learned from


def vocabulary(feature_maps: Any, words: int = 16, seed: int = 0) -> NDArray[np.float32]:
    """Centres of k-means over a sample of unit-length pixel vectors of the images to learn from.

    Args:
        feature_maps: (images, channels, H, W), floating.
        words: how many centres, at most the number of pixel vectors. Default 16.
        seed: of the sample and of scikit-learn's KMeans. Default 0.

    Returns:
        float32 (words, channels); some are equal where there are fewer different vectors.
    """
    maps = feature_map_array(feature_maps)
    pixels = maps.shape[2] * maps.shape[3]
    places = np.random.default_rng(seed).permutation(len(maps) * pixels)[:_SAMPLE]
    sample = np.sort(places)
    flat = np.concatenate(
        [
            pixel_vectors(maps[image : image + 1])[0][sample[sample // pixels == image] % pixels]
            for image in np.unique(sample // pixels)
        ]
    )
    vectors = vector_rows(flat, "feature_maps", normalize=True)
    means = KMeans(positive_integer(words, "words", len(vectors)), n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal words
        centres: NDArray[np.float32] = means.fit(vectors).cluster_centers_.astype(np.float32)
    return centres


def vlad(feature_maps: Any, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of the differences between unit-length pixel vectors and their nearest word, word by word.

    Each word's sum is scaled to unit length (intra-normalisation). Arandjelovic, Zisserman, All about VLAD.

    Args:
        feature_maps: (images, channels, H, W), floating.
        centres: the words, from `vocabulary`, (words, channels).

    Returns:
        float32 (images, words * channels).
    """
    maps = feature_map_array(feature_maps)
    if centres.shape[1:] != maps.shape[1:2]:
        raise ValueError(
            f"feature_maps: expected (images, {centres.shape[1]}, H, W), as the centres have, "
            f"got {maps.shape}"
        )
    result = np.zeros((len(maps), *centres.shape), np.float32)
    for start in range(0, len(maps), _BATCH):
        vectors = pixel_vectors(maps[start : start + _BATCH])
        images, pixels, channels = vectors.shape
        rows = vector_rows(vectors.reshape(-1, channels), "feature_maps", normalize=True)
        words = pairwise_distances_argmin(rows, centres)
        np.add.at(result, (start + np.repeat(np.arange(images), pixels), words), rows - centres[words])
    norms = np.linalg.norm(result, axis=2, keepdims=True)
    np.divide(result, norms, out=result, where=norms > 0)
    return result.reshape(len(maps), -1)
