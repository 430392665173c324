"""Vectors in fewer dimensions: their principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pyhue._arrays import floating, positive_integer
from pyhue._rows import query_rows
from pyhue.vector_memory import MAX_DIM

_SAMPLE = 20_000  # vectors that the directions are learned from


class Principal:
    """The directions in which unit-length vectors vary most.

    Learned by scikit-learn's PCA from at most 20,000 of the vectors, drawn at random: exact for vectors of up
    to 4,096 dimensions, randomised for longer ones.

    Args:
        vectors: to learn from, (..., dim), floating; those that are all zero do not count.
        dims: how many directions, at most `dim`; fewer where there are fewer vectors.
        seed: of the sample and of the randomised decomposition. Default 0.

    Raises:
        TypeError: `vectors` are not floating, or `dims` is no integer.
        ValueError: fewer than two vectors are not zero, a value is NaN or infinite, or `dims` is wrong.

    Example:
        >>> vectors = np.eye(6)
        >>> Principal(vectors, dims=2)(vectors).shape
        (6, 2)
    """

    def __init__(self, vectors: Any, dims: int, seed: int = 0) -> None:
        given = floating(vectors, "vectors")
        self._dim = given.shape[-1] if given.ndim else 0
        if given.size == 0 or self._dim == 0:
            raise ValueError(f"vectors: expected (..., dim), none of the sizes 0, got {given.shape}")
        dims = positive_integer(dims, "dims", self._dim)
        rows, zero = query_rows(given.reshape(-1, self._dim), "vectors", normalize=True)
        filled = np.random.default_rng(seed).permutation(np.flatnonzero(~zero))[:_SAMPLE]
        if len(filled) < 2:
            raise ValueError("vectors: expected at least two that are not zero, to learn directions from")
        solver = "covariance_eigh" if self._dim <= MAX_DIM else "randomized"
        few = min(dims, len(filled) - 1)  # n vectors about their mean span n - 1 dimensions
        self._pca = PCA(few, svd_solver=solver, random_state=seed).fit(rows[np.sort(filled)])

    def __call__(self, vectors: Any) -> NDArray[np.float32]:
        """Components of unit-length vectors about the mean, (..., dim) to (..., dims); zeros stay zeros.

        Raises:
            TypeError, ValueError: `vectors` are not floating, of another length, or not finite.
        """
        given = floating(vectors, "vectors")
        if given.ndim == 0 or given.shape[-1] != self._dim:
            raise ValueError(f"vectors: expected (..., {self._dim}), got {given.shape}")
        shape = *given.shape[:-1], self._pca.n_components_
        if given.size == 0:
            return np.zeros(shape, np.float32)
        rows, zero = query_rows(given.reshape(-1, self._dim), "vectors", normalize=True)
        found: NDArray[np.float32] = self._pca.transform(rows).astype(np.float32, copy=False)
        found[zero] = 0
        return found.reshape(shape)
