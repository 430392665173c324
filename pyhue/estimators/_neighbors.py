"""Nearest neighbours as scikit-learn's estimators give them."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from pyhue._arrays import positive_integer
from pyhue.vector_memory import VectorMemory

Mode = Literal["connectivity", "distance"]
Dtype = Literal["float32", "bfloat16"]


class _Neighbors(BaseEstimator):
    """What is fitted, and the k nearest of it."""

    n_neighbors: int
    dtype: Dtype

    def fit(self, X: Any, y: Any = None) -> Self:
        """Stores the vectors.

        Args:
            X: (n, features), finite, at most 4,096 features.
            y: ignored.

        Returns:
            The estimator, with `memory_`, the `pyhue.VectorMemory`, and `n_samples_fit_`.
        """
        vectors = validate_data(self, X, dtype=np.float32)
        memory = VectorMemory(vectors.shape[1], normalize=False, dtype=self.dtype)
        memory.add(vectors)
        self.memory_ = memory
        self.n_samples_fit_ = len(memory)
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """The nearest of the fitted vectors, nearest first, ties to the lower index.

        Args:
            X: (queries, features). None, the default, stands for the fitted vectors, none of which is
                then its own neighbour.
            n_neighbors: how many; default the estimator's.
            return_distance: default True.

        Returns:
            Euclidean distances, float64 (queries, n_neighbors), the roots of float32 squares, unless
            `return_distance` is False; and indices, int64 (queries, n_neighbors).

        Raises:
            ValueError: there are fewer vectors, others than the query itself, than `n_neighbors`.
        """
        check_is_fitted(self)
        count = positive_integer(self.n_neighbors if n_neighbors is None else n_neighbors, "n_neighbors")
        others = self.n_samples_fit_ - (X is None)
        if count > others:
            raise ValueError(
                f"n_neighbors: expected at most {others}, n_samples_fit = {self.n_samples_fit_}, got {count}"
            )
        if X is None:
            found = self.memory_.search(self.memory_.vectors, count + 1)
            distances, indices = _without_themselves(*found)
        else:
            distances, indices = self.memory_.search(self._queries(X), count)
        return (np.sqrt(distances.astype(np.float64)), indices) if return_distance else indices

    def kneighbors_graph(
        self, X: Any = None, n_neighbors: int | None = None, mode: Mode = "connectivity"
    ) -> csr_matrix:
        """The nearest neighbours as a sparse matrix.

        Args:
            X: as for `kneighbors`.
            n_neighbors: default the estimator's.
            mode: "connectivity", ones, or "distance", Euclidean; those of 0 are stored.

        Returns:
            float64 (queries, fitted vectors) in CSR form, n_neighbors values in each row, nearest first.
        """
        _require_mode(mode)
        distances, indices = self.kneighbors(X, n_neighbors)
        rows, count = indices.shape
        return self._graph(np.arange(0, rows * count + 1, count), distances.ravel(), indices.ravel(), mode)

    def _queries(self, X: Any) -> NDArray[np.float32]:
        queries: NDArray[np.float32] = validate_data(self, X, dtype=np.float32, reset=False)
        return queries

    def _graph(
        self, limits: NDArray[np.int64], distances: NDArray[Any], indices: NDArray[np.int64], mode: Mode
    ) -> csr_matrix:
        values = distances if mode == "distance" else np.ones(len(indices))
        return csr_matrix((values, indices, limits), shape=(len(limits) - 1, self.n_samples_fit_))


class ExactNeighbors(_Neighbors):
    """`sklearn.neighbors.NearestNeighbors(algorithm="brute")`, exact in float32 and faster.

    Args:
        n_neighbors: neighbours of each query. Default 5.
        radius: Euclidean, how far the neighbours of `radius_neighbors` may be. Default 1.
        dtype: how vectors are stored, "float32" or "bfloat16", which takes half the memory and rounds them.
            Default "float32".

    Attributes:
        memory_: the `pyhue.VectorMemory`, which can be saved.
        n_samples_fit_: how many vectors were fitted.
        n_features_in_: their length.

    The first search of 20,000 or more vectors takes seconds longer: it chooses how they are packed.

    Example:
        >>> from pyhue.estimators import ExactNeighbors
        >>> neighbors = ExactNeighbors(n_neighbors=2).fit([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
        >>> distances, indices = neighbors.kneighbors([[0.0, 0.0]])
        >>> distances, indices
        (array([[0., 5.]]), array([[0, 1]]))
    """

    def __init__(self, *, n_neighbors: int = 5, radius: float = 1.0, dtype: Dtype = "float32"):
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.dtype = dtype

    def radius_neighbors(
        self, X: Any = None, radius: float | None = None, return_distance: bool = True
    ) -> Any:
        """All fitted vectors within a radius, it included, nearest first, ties to the lower index.

        Args:
            X: as for `kneighbors`.
            radius: Euclidean, at least 0; default the estimator's.
            return_distance: default True.

        Returns:
            Euclidean distances, unless `return_distance` is False, and indices: each an array (queries,) of
            arrays, float64 and int64.
        """
        limits, distances, indices = self._within(X, radius)
        if not return_distance:
            return _parts(indices, limits)
        return _parts(distances, limits), _parts(indices, limits)

    def radius_neighbors_graph(
        self, X: Any = None, radius: float | None = None, mode: Mode = "connectivity"
    ) -> csr_matrix:
        """All within a radius as a sparse matrix: what DBSCAN(metric="precomputed") takes.

        Args:
            X: as for `kneighbors`.
            radius: as for `radius_neighbors`.
            mode: as for `kneighbors_graph`.

        Returns:
            float64 (queries, n_samples_fit) in CSR form, nearest first in each row.
        """
        _require_mode(mode)
        return self._graph(*self._within(X, radius), mode)

    def _within(
        self, X: Any, radius: float | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        check_is_fitted(self)
        largest = self.radius if radius is None else radius
        if not isinstance(largest, (int, float, np.integer, np.floating)) or not largest >= 0:
            raise ValueError(f"radius: expected a number of at least 0, got {largest!r}")
        memory, square = self.memory_, float(largest) * float(largest)
        if X is None:
            found = memory.within(memory.vectors, square, exclude=np.arange(len(memory)))
        else:
            found = memory.within(self._queries(X), square)
        return found.limits, np.sqrt(found.distances.astype(np.float64)), found.indices


class ExactNeighborsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Neighbors):
    """`sklearn.neighbors.KNeighborsTransformer`, exact in float32 and faster.

    It turns vectors into the graph of their nearest neighbours, which estimators of scikit-learn with
    metric="precomputed", such as TSNE and KNeighborsClassifier, and umap.UMAP take.

    Args:
        mode: "distance", the default, or "connectivity".
        n_neighbors: neighbours of each vector. With "distance" there is one more, since a fitted vector is
            its own neighbour at distance 0. Default 5.
        dtype: as of `ExactNeighbors`.

    Attributes:
        memory_, n_samples_fit_, n_features_in_: as of `ExactNeighbors`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> from pyhue.estimators import ExactNeighborsTransformer
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = KNeighborsClassifier(n_neighbors=5, metric="precomputed")
        >>> pipeline = make_pipeline(ExactNeighborsTransformer(n_neighbors=5), classifier)
        >>> round(pipeline.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]), 2)
        0.96
    """

    def __init__(self, *, mode: Mode = "distance", n_neighbors: int = 5, dtype: Dtype = "float32"):
        self.mode = mode
        self.n_neighbors = n_neighbors
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None) -> Self:
        """Stores the vectors.

        Args:
            X: (n, features), finite, at most 4,096 features.
            y: ignored.
        """
        _require_mode(self.mode)
        super().fit(X)
        self._n_features_out = self.n_samples_fit_
        return self

    def transform(self, X: Any) -> csr_matrix:
        """The graph of the fitted neighbours of X (queries, features): float64 (queries, fitted)."""
        check_is_fitted(self)
        count = positive_integer(self.n_neighbors, "n_neighbors") + (self.mode == "distance")
        return self.kneighbors_graph(X, count, self.mode)


def _require_mode(mode: Any) -> None:
    if mode not in ("connectivity", "distance"):
        raise ValueError(f"mode: expected 'connectivity' or 'distance', got {mode!r}")


def _parts(values: NDArray[Any], limits: NDArray[np.int64]) -> NDArray[np.object_]:
    """(queries,) of arrays, whatever their lengths."""
    parts = np.empty(len(limits) - 1, object)
    parts[:] = np.split(values, limits[1:-1])
    return parts


def _without_themselves(distances: NDArray[Any], indices: NDArray[np.int64]) -> tuple[NDArray[Any], Any]:
    """One neighbour fewer: row i without i, or without its last where copies of it came first."""
    others = indices != np.arange(len(indices))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(indices), indices.shape[1] - 1)
    return distances[others].reshape(shape), indices[others].reshape(shape)
