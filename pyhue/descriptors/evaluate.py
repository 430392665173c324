"""Classification by density over the nearest neighbours, with each descriptor, on the same folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from pyhue._arrays import positive_integer
from pyhue._stderr import progress_bar
from pyhue.descriptors._vote import directed, vote
from pyhue.descriptors.pooling import average, flatten, gem, maximum, rmac
from pyhue.descriptors.principal import Principal
from pyhue.descriptors.vlad import vlad, vocabulary
from pyhue.features import Features
from pyhue.images import stratified_folds
from pyhue.memory import PixelMemory
from pyhue.pixel_vectors import pixel_vectors
from pyhue.vector_memory import MAX_DIM

_Vectors = NDArray[np.float16] | NDArray[np.float32]  # (images, vectors, dim)
#: From indices of the memory's images and of the queries to the vectors of both.
_Describe = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[_Vectors, ...]]

_BATCH = 256  # images pooled at once
_WORDS = 16  # of the vocabulary for VLAD
_COUNT = 7  # of the descriptors


class Result(NamedTuple):
    """How one descriptor does."""

    name: str
    correct: NDArray[np.bool_]  #: (images,), every image having been a query once
    dim: int  #: of one vector
    bytes_per_image: int  #: of the vectors that one image adds to a memory, as float32
    rate: float  #: images classified a second, search and density, without making the descriptor
    search: str  #: what searched: "PixelMemory", or "scikit-learn" for vectors longer than it takes

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly."""
        return float(self.correct.mean())

    @property
    def error(self) -> float:
        """Standard error of the accuracy, sqrt(a (1 - a) / images)."""
        return float(np.sqrt(self.accuracy * (1 - self.accuracy) / len(self.correct)))

    def difference(self, other: Result) -> tuple[float, float]:
        """Accuracy minus `other`'s on the same images, and the standard error of that difference."""
        gains = self.correct.astype(float) - other.correct
        return float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))


def evaluate(
    features: Features, k: int = 10, folds: int = 5, seed: int = 0, pca: int | None = None
) -> list[Result]:
    """Classifies every image by the images of the other folds, with each descriptor.

    Descriptors: pixel vectors, flattened map, average, GeM (p = 3), maximum, R-MAC (3 levels), VLAD (16
    words, learned from the memory's images). All vectors at unit length, k neighbours, `pyhue.density` with
    its adaptive bandwidth. Searches are exact. All-zero vectors are left out.

    Args:
        features: activations and classes of images.
        k: neighbours of each vector. Default 10.
        folds: stratified; each is classified with the others as memory. Default 5.
        seed: of the folds, of VLAD's vocabulary and of what `pca` draws. Default 0.
        pca: principal components that are kept of each vector, at most as many as it is long; learned from
            the memory's images alone. None keeps the vectors. Default None.

    Raises:
        ValueError: a class has fewer images than there are folds, or an argument is wrong.
    """
    k = positive_integer(k, "k")
    if pca is not None:
        pca = positive_integer(pca, "pca")
    maps, labels = features.activations, features.labels
    parts = stratified_folds(labels, folds, seed, features.classes)
    results = []
    with progress_bar(desc="descriptors", total=_COUNT * len(parts), unit="fold") as bar:
        for name, describe in _descriptors(maps, seed):
            correct = np.zeros(len(labels), bool)
            seconds = 0.0
            for memory, queries in parts:
                stored, asked = describe(memory, queries)
                if pca is not None:
                    stored, asked = reduced(stored, asked, pca, seed)
                predicted, spent = classify(stored, labels[memory], asked, k)
                correct[queries] = predicted == labels[queries]
                seconds += spent
                bar.update()
            vectors, dim = stored.shape[1:]
            search = "PixelMemory" if dim <= MAX_DIM else "scikit-learn"
            results.append(Result(name, correct, dim, 4 * vectors * dim, len(labels) / seconds, search))
    return results


def reduced(stored: _Vectors, asked: _Vectors, dims: int, seed: int) -> tuple[_Vectors, _Vectors]:
    """Principal components of a memory's vectors, and those of the queries along the same directions."""
    components = Principal(stored, min(dims, stored.shape[2]), seed)
    return components(stored), components(asked)


def classify(
    stored: NDArray[np.floating], labels: NDArray[np.int64], asked: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], float]:
    """Classes of images by the density over exact neighbours, and the seconds that search and density took.

    All-zero vectors are nobody's neighbours and have no vote.

    Args:
        stored: vectors of the memory's images (images, vectors, dim).
        labels: their classes (images,).
        asked: vectors of the images to classify (n, vectors, dim).
        k: neighbours of each vector.
    """
    if stored.shape[2] <= MAX_DIM:
        memory = PixelMemory(stored.shape[2])
        memory.add(stored, labels)
        memory.optimize()
        start = time.perf_counter()
        predicted: NDArray[np.int64] = memory.predict(asked, k)
        return predicted, time.perf_counter() - start
    rows, filled = directed(stored)
    queries, voting = directed(asked)
    search = NearestNeighbors(algorithm="brute", metric="sqeuclidean").fit(rows).kneighbors
    start = time.perf_counter()
    distances, indices = search(queries, n_neighbors=min(k, len(rows)))
    predicted = vote(distances, indices, np.repeat(labels, filled.sum(axis=1)), voting)
    return predicted, time.perf_counter() - start


def _descriptors(maps: NDArray[np.float16], seed: int) -> Iterator[tuple[str, _Describe]]:
    """Names and functions, one after the other, so that one pooled set of vectors is held at a time."""
    yield "pixel vectors", partial(_pixels, maps)
    pools: dict[str, Callable[[NDArray[np.float16]], NDArray[np.float32]]] = {
        "flattened": flatten,
        "average": average,
        "GeM": gem,
        "maximum": maximum,
        "R-MAC": rmac,
    }
    for name, pool in pools.items():
        starts = range(0, len(maps), _BATCH)
        yield name, partial(_pooled, np.concatenate([pool(maps[at : at + _BATCH]) for at in starts])[:, None])
    yield "VLAD", partial(_vlad, maps, seed)


def _pixels(maps: NDArray[np.float16], *parts: NDArray[np.int64]) -> tuple[_Vectors, ...]:
    return tuple(pixel_vectors(maps[part]) for part in parts)


def _pooled(vectors: NDArray[np.float32], *parts: NDArray[np.int64]) -> tuple[_Vectors, ...]:
    return tuple(vectors[part] for part in parts)


def _vlad(maps: NDArray[np.float16], seed: int, *parts: NDArray[np.int64]) -> tuple[_Vectors, ...]:
    memory = maps[parts[0]]
    centres = vocabulary(memory, min(_WORDS, len(memory) * memory.shape[2] * memory.shape[3]), seed)
    return tuple(vlad(maps[part], centres)[:, None] for part in parts)
