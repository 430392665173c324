"""Vectors in fewer dimensions: their principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pyhue._arrays import positive_integer
from pyhue._rows import query_rows
from pyhue.vector_memory import MAX_DIM

_SAMPLE = 20_000  # vectors that the directions are learned from


class Principal:
    """The directions in which unit-length vectors vary most.

    Learned by scikit-learn's PCA from at most 20,000 of the vectors, drawn at random: exact for vectors of up
    to 4,096 dimensions, randomised for longer ones.

    Args:
        vectors: to learn from, (images, vectors, dim), floating; those that are all zero do not count.
        dims: how many directions, at most `dim`; fewer where there are fewer vectors.
        seed: of the sample and of the randomised decomposition. Default 0.

    Raises:
        ValueError: fewer than two vectors are not zero, or `dims` is wrong.

    Example:
        >>> vectors = np.eye(6)[:, None]
        >>> Principal(vectors, dims=2)(vectors).shape
        (6, 1, 2)
    """

    def __init__(self, vectors: NDArray[np.floating[Any]], dims: int, seed: int = 0) -> None:
        dims = positive_integer(dims, "dims", vectors.shape[2])
        rows, zero = query_rows(vectors.reshape(-1, vectors.shape[2]), "vectors", normalize=True)
        filled = np.random.default_rng(seed).permutation(np.flatnonzero(~zero))[:_SAMPLE]
        if len(filled) < 2:
            raise ValueError("vectors: expected at least two that are not zero, to learn directions from")
        solver = "covariance_eigh" if vectors.shape[2] <= MAX_DIM else "randomized"
        few = min(dims, len(filled) - 1)  # n vectors about their mean span n - 1 dimensions
        self._pca = PCA(few, svd_solver=solver, random_state=seed).fit(rows[np.sort(filled)])

    def __call__(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Components of unit-length vectors about the mean, (images, vectors, dims); zeros stay zeros."""
        rows, zero = query_rows(vectors.reshape(-1, vectors.shape[2]), "vectors", normalize=True)
        found: NDArray[np.float32] = self._pca.transform(rows).astype(np.float32, copy=False)
        found[zero] = 0
        return found.reshape(*vectors.shape[:2], -1)
