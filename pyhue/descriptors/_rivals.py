"""Approximate search of pixel vectors by other libraries, beside the exact one."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._config import get_num_threads
from pyhue.descriptors._vote import directed, vote
from pyhue.descriptors.evaluate import reduced
from pyhue.features import Features
from pyhue.images import stratified_folds
from pyhue.pixel_vectors import pixel_vectors
from pyhue.vector_memory import VectorMemory

#: Searches: float32 queries (n, dim) to squared distances and indices (n, k), -1 where none was found.
_Search = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.int64]]]


class Rival(NamedTuple):
    """How one index does on the pixel vectors of one fold."""

    name: str
    correct: NDArray[np.bool_]  #: (queries,)
    recall: float  #: share of the k exact neighbours that it found
    rate: float  #: images classified a second, search and density
    build: float  #: seconds to build the index


def rivals(
    features: Features, k: int, folds: int, seed: int, pca: int | None = None
) -> tuple[list[Rival], list[str]]:
    """Classifies the first fold by pixel vectors with each index; arguments as of `evaluate`.

    Returns:
        The results, exact search first, and the packages that are not installed.
    """
    memory, queries = stratified_folds(features.labels, folds, seed, features.classes)[0]
    kept, new = (pixel_vectors(features.activations[part]) for part in (memory, queries))
    if pca is not None:
        kept, new = reduced(kept, new, pca, seed)
    (stored, filled), (asked, voting) = directed(kept), directed(new)
    classes = np.repeat(features.labels[memory], filled.sum(axis=1))
    missing = [package for package in ("faiss", "annoy") if not importlib.util.find_spec(package)]
    builders = [_exact]
    builders += [] if "faiss" in missing else [_hnsw, _ivf]
    builders += [] if "annoy" in missing else [_annoy]
    found, exact = [], np.empty(0, np.int64)
    for build in builders:
        start = time.perf_counter()
        name, search = build(stored, k)
        middle = time.perf_counter()
        distances, indices = search(asked)
        predicted = vote(distances, indices, classes, voting)
        seconds = time.perf_counter() - middle
        exact = indices if build is _exact else exact
        correct = predicted == features.labels[queries]
        rate = len(queries) / seconds
        found.append(Rival(name, correct, _recall(indices, exact), rate, middle - start))
    return found, missing


def _recall(indices: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    hits = sum(int((indices == column[:, None]).any(axis=1).sum()) for column in exact.T)
    return hits / exact.size


def _exact(stored: NDArray[np.float32], k: int) -> tuple[str, _Search]:
    memory = VectorMemory(stored.shape[1])
    memory.add(stored)
    memory.optimize()
    return "PixelMemory, exact", lambda queries: tuple(memory.search(queries, k))


def _hnsw(stored: NDArray[np.float32], k: int) -> tuple[str, _Search]:
    import faiss

    faiss.omp_set_num_threads(get_num_threads())
    index = faiss.IndexHNSWFlat(stored.shape[1], 32)
    index.add(stored)
    index.hnsw.efSearch = 64
    return "FAISS HNSW, M = 32, efSearch = 64", lambda queries: index.search(queries, k)


def _ivf(stored: NDArray[np.float32], k: int) -> tuple[str, _Search]:
    import faiss

    faiss.omp_set_num_threads(get_num_threads())
    lists = max(1, min(1024, len(stored) // 39))  # FAISS asks for 39 vectors a list
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(stored.shape[1]), stored.shape[1], lists)
    index.train(stored)
    index.add(stored)
    index.nprobe = min(16, lists)
    return f"FAISS IVF, {lists} lists, nprobe = {index.nprobe}", lambda queries: index.search(queries, k)


def _annoy(stored: NDArray[np.float32], k: int) -> tuple[str, _Search]:
    from annoy import AnnoyIndex

    trees, search_k = 20, 2000
    index = AnnoyIndex(stored.shape[1], "angular")
    index.set_seed(1)
    for row, vector in enumerate(stored):
        index.add_item(row, vector)
    index.build(trees, n_jobs=get_num_threads())

    def search(queries: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        distances = np.full((len(queries), k), np.inf, np.float32)
        indices = np.full((len(queries), k), -1, np.int64)
        for row, query in enumerate(queries):
            rows, lengths = index.get_nns_by_vector(query, k, search_k, include_distances=True)
            indices[row, : len(rows)] = rows
            distances[row, : len(rows)] = np.square(lengths)  # angular: the chord of unit vectors
        return distances, indices

    return f"Annoy, {trees} trees, search_k = {search_k:,}", search
