"""Classification by density over the neighbours of pixel vectors, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from pyhue._arrays import is_tensor, to_numpy
from pyhue.memory import PixelMemory

_NO_VOTE = float(
    np.finfo(np.float32).min
)  # decision where a class has no neighbour: finite, for roc_auc_score

_AT_ONCE = 8192  # vectors of a leave-one-out search, unless one sample has more


class PixelDensityClassifier(ClassifierMixin, BaseEstimator):
    """Classes by kernel density over the nearest stored vectors: equation 2, `pyhue.density`.

    A sample is an image, a set of pixel vectors that vote together, or a single vector.

    Args:
        n_neighbors: neighbours of each vector; where fewer are stored, all of them. Default 10.
        normalize: compare by direction. An all-zero vector then casts no vote. Default True.
        eps: added to the squared bandwidth, positive. Default 1e-8.
        dtype: how vectors are stored, "float32" or "bfloat16". Default "float32".

    Attributes:
        classes_: labels, sorted, any that NumPy sorts.
        memory_: the `pyhue.PixelMemory`, whose labels are positions in `classes_`.
        n_features_in_: channels of a vector.

    X is (images, pixels, channels) or (n, channels), finite; of feature maps (images, channels, H, W),
    `pyhue.pixel_vectors` makes that.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from pyhue.estimators import PixelDensityClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = PixelDensityClassifier().fit(X[:1000], y[:1000])
        >>> round(classifier.score(X[1000:], y[1000:]), 2)
        0.96
    """

    def __init__(
        self,
        *,
        n_neighbors: int = 10,
        normalize: bool = True,
        eps: float = 1e-8,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ):
        self.n_neighbors = n_neighbors
        self.normalize = normalize
        self.eps = eps
        self.dtype = dtype

    def fit(self, X: Any, y: Any) -> Self:
        """Stores the vectors of labelled samples, and forgets those of before."""
        vectors, labels = self._labelled(X, y, reset=True)
        return self._begin(vectors, np.unique(labels))._add(vectors, labels)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Stores more labelled samples.

        Args:
            X: as for `fit`; images may have other numbers of pixels than those of before.
            y: labels.
            classes: all labels that will ever come; needed at the first call, and the same later where given.
        """
        first = not hasattr(self, "classes_")
        vectors, labels = self._labelled(X, y, reset=first)
        if first:
            if classes is None:
                raise ValueError("classes: expected all labels at the first call of partial_fit")
            self._begin(vectors, unique_labels(classes))
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {classes}")
        return self._add(vectors, labels)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log-likelihoods (n, classes); of two classes the second's less the first's, (n,).

        A class that none of the neighbours is of has the lowest float32, -3.4e38.
        """
        found = self._log_likelihood(X)
        finite = np.maximum(found, _NO_VOTE)
        return finite[:, 1] - finite[:, 0] if len(self.classes_) == 2 else finite

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Likelihoods as shares of their sum, (n, classes): classes are taken for equally frequent."""
        return _shares(self._log_likelihood(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most likely class of each sample, (n,); the first of `classes_` where none has a neighbour."""
        found = self._log_likelihood(X)
        return np.asarray(self.classes_[found.argmax(axis=1)])

    def leave_one_out_predict(self) -> NDArray[Any]:
        """The class of each fitted sample by all others, (n,): a sample's own vectors cast no vote."""
        check_is_fitted(self)
        memory, vectors = self.memory_, self.memory_.vectors
        first = np.unique(memory.images, return_index=True)[1]
        sizes = np.diff(first, append=len(memory))
        codes = np.empty(len(first), np.int64)
        for size in np.unique(sizes):
            images = np.flatnonzero(sizes == size)
            for part in np.array_split(images, -(-len(images) * size // _AT_ONCE)):
                asked = vectors[first[part, None] + np.arange(size)]
                codes[part] = memory.predict(asked, self.n_neighbors, self.eps, exclude=part)
        return np.asarray(self.classes_[codes])

    def leave_one_out_score(self) -> float:
        """The share of fitted samples that `leave_one_out_predict` gives their own class."""
        check_is_fitted(self)
        memory = self.memory_
        own = memory.labels[np.unique(memory.images, return_index=True)[1]]
        return float((self.leave_one_out_predict() == self.classes_[own]).mean())

    def _begin(self, vectors: NDArray[np.float32], classes: NDArray[Any]) -> Self:
        self.memory_ = PixelMemory(vectors.shape[2], self.normalize, self.dtype)
        self.classes_ = classes
        return self

    def _add(self, vectors: NDArray[np.float32], labels: NDArray[Any]) -> Self:
        codes = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        unknown = np.setdiff1d(labels[self.classes_[codes] != labels], self.classes_)
        if len(unknown):
            raise ValueError(f"y: expected labels among classes, got {unknown[:5].tolist()}")
        self.memory_.add(vectors, codes)
        return self

    def _labelled(self, X: Any, y: Any, reset: bool) -> tuple[NDArray[np.float32], NDArray[Any]]:
        if y is None:
            raise ValueError("y: requires y to be passed, but the target y is None")
        vectors = self._vectors(X, reset)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(vectors, labels)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        return vectors, labels

    def _vectors(self, X: Any, reset: bool) -> NDArray[np.float32]:
        """(samples, vectors of each, channels)."""
        if is_tensor(X):
            X = to_numpy(X, "X")
        dimensions = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if dimensions > 3:
            raise ValueError(
                f"X: expected (images, pixels, channels) or (n, channels), got {dimensions} dimensions; "
                "pyhue.pixel_vectors turns feature maps"
            )
        if dimensions == 3:
            X = np.asarray(X)
            flat = validate_data(self, X.reshape(-1, X.shape[2]), dtype=np.float32, reset=reset)
            return np.asarray(flat).reshape(X.shape)
        flat = validate_data(self, X, dtype=np.float32, reset=reset)
        return np.asarray(flat)[:, None]

    def _log_likelihood(self, X: Any) -> NDArray[np.float64]:
        """(n, classes), -inf for a class without a neighbour, those that have not come yet among them."""
        check_is_fitted(self)
        vectors = self._vectors(X, reset=False)
        found = self.memory_.log_likelihood(vectors, self.n_neighbors, self.eps)
        if len(self.memory_.classes) == len(self.classes_):
            return np.asarray(found)
        result = np.full((len(vectors), len(self.classes_)), -np.inf)
        result[:, self.memory_.classes] = found
        return result


def _shares(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalised exponentials of each row; equal where all are -inf."""
    highest = log_likelihood.max(axis=1, keepdims=True)
    shares = np.exp(np.where(np.isfinite(highest), log_likelihood - np.maximum(highest, _NO_VOTE), 0.0))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
