"""What retrieval must compute, by brute force in NumPy, and how to compare with it.

Two oracles. `exact_search` is the contract itself: float32 distances in the documented order of summation,
so results are compared bit for bit. `assert_neighbors` knows nothing of that order: it recomputes distances
in float64 and allows what float32 rounding can change, so it judges any search.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pyhue
from pyhue import _core

Floats = NDArray[np.float32]

SUMS = 32  # partial sums of a float32 distance
SMALLEST = 2.0**-149  # spacing of float32 near zero


def distances64(query: NDArray[Any], vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Squared Euclidean distances of one query to (n, dim) vectors, in float64."""
    difference = vectors.astype(np.float64) - query.astype(np.float64)
    return np.einsum("ij,ij->i", difference, difference)


def distances32(query: Floats, vectors: Floats) -> Floats:
    """The distances of the contract, every operation rounded to float32.

    32 partial sums, element i to sum i mod 32; then halved five times, partial[j] += partial[j + half].
    """
    dim = vectors.shape[1]
    partial = np.zeros((len(vectors), SUMS), np.float32)
    with np.errstate(over="ignore"):
        squares = vectors - query
        squares *= squares
        for start in range(0, dim, SUMS):
            part = squares[:, start : start + SUMS]
            partial[:, : part.shape[1]] += part
        half = SUMS // 2
        while half:
            partial[:, :half] += partial[:, half : 2 * half]
            half //= 2
    return partial[:, 0].copy()


def exact_search(
    queries: Floats, vectors: Floats, k: int, by_direction: bool = False
) -> tuple[Floats, NDArray[np.int64]]:
    """The contract: k smallest `distances32`, ties to the lower index, then -1 at distance +inf.

    `by_direction`: all-zero vectors are not found, and all-zero queries find nothing.
    """
    distances = np.full((len(queries), k), np.inf, np.float32)
    indices = np.full((len(queries), k), -1, np.int64)
    rows = _findable(vectors, by_direction)
    found = min(k, len(rows))
    for row, query in enumerate(queries):
        if by_direction and not query.any():
            continue
        all_distances = distances32(query, vectors[rows])
        order = np.argsort(all_distances, kind="stable")[:found]
        distances[row, :found] = all_distances[order]
        indices[row, :found] = rows[order]
    return distances, indices


def _findable(vectors: NDArray[Any], by_direction: bool) -> NDArray[np.int64]:
    return np.flatnonzero(vectors.any(axis=1)) if by_direction else np.arange(len(vectors))


def rounding(exact: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """How far a float32 distance may be from the exact one, whatever the order within 32 partial sums.

    Three roundings of each square, one of each addition to its sum, five of the halving; and what a square
    loses when it underflows.
    """
    return (-(-dim // SUMS) + 10) * 2.0**-24 * exact + dim * SMALLEST


def assert_neighbors(
    distances: Any, indices: Any, queries: NDArray[Any], vectors: NDArray[Any], by_direction: bool = False
) -> None:
    """Fails unless these are nearest neighbours, as far as float32 can tell them apart.

    queries (n, dim), vectors (m, dim), as they are compared: normalised if the search does that. Zero vectors
    count for none if `by_direction`.
    """
    findable = _findable(vectors, by_direction)
    assert distances.shape == indices.shape == (len(queries), distances.shape[1])
    assert distances.dtype == np.float32
    assert indices.dtype == np.int64
    largest = float(np.finfo(np.float32).max)
    for query, d, index in zip(queries, distances.astype(np.float64), indices, strict=True):
        found = 0 if by_direction and not query.any() else min(len(d), len(findable))
        assert (index[found:] == -1).all(), "an index where there is no neighbour"
        assert np.isposinf(d[found:]).all(), "a distance where there is no neighbour"
        d, index = d[:found], index[:found]
        assert index.min(initial=0) >= 0, "an index is negative"
        assert index.max(initial=0) < len(vectors), "an index is beyond the memory"
        assert len(set(index.tolist())) == found, "a neighbour appears twice"
        assert np.isin(index, findable).all(), "a vector without direction is a neighbour"
        if not found:
            continue
        before, after = d[:-1], d[1:]
        ordered = (before < after) | ((before == after) & (index[:-1] < index[1:]))
        assert ordered.all(), "not sorted by distance, then index"
        exact = distances64(query, vectors)
        slack = rounding(exact, vectors.shape[1])
        overflowed = np.isposinf(d) & (exact[index] + slack[index] >= largest)
        with np.errstate(invalid="ignore"):
            wrong = np.abs(d - exact[index]) > slack[index]
        assert not (wrong & ~overflowed).any(), "a distance is wrong"
        missed = np.zeros(len(vectors), bool)
        missed[findable] = True
        missed[index] = False
        if missed.any():
            farthest = np.minimum((exact - slack)[index], largest).max()
            nearest_missed = np.minimum((exact + slack)[missed], largest).min()
            assert nearest_missed >= farthest, "a nearer vector was left out"


def memory_of(vectors: NDArray[Any], *, normalize: bool = False, pieces: int = 1) -> pyhue.PixelMemory:
    """A memory of (n, dim) vectors, one image and label 0 for each piece."""
    memory = pyhue.PixelMemory(vectors.shape[1], normalize=normalize)
    for part in np.array_split(vectors, pieces):
        memory.add(part[None], [0])
    return memory


def stored(vectors: NDArray[Any], *, normalize: bool) -> Floats:
    """The vectors as a memory stores and compares them."""
    return memory_of(vectors, normalize=normalize).vectors


def assert_exact(
    result: pyhue.SearchResult, queries: Floats, vectors: Floats, by_direction: bool = False
) -> None:
    """Fails unless the result equals the contract bit for bit."""
    distances, indices = exact_search(queries, vectors, result.distances.shape[-1], by_direction)
    np.testing.assert_array_equal(result.indices, indices)
    np.testing.assert_array_equal(result.distances, distances)


def assert_same(result: pyhue.SearchResult, expected: pyhue.SearchResult) -> None:
    """Fails unless both results are bit-identical."""
    np.testing.assert_array_equal(result.indices, expected.indices)
    np.testing.assert_array_equal(result.distances, expected.distances)


def density64(
    distances: NDArray[Any], labels: NDArray[np.int64], counts: NDArray[np.int64], eps: float
) -> NDArray[np.float64]:
    """Equation 2 as it is written, (images, pixels, k) to (images, classes): underflows to -inf."""
    result = np.full((len(distances), len(counts)), -np.inf)
    for image in range(len(distances)):
        for c in range(len(counts)):
            p = 0.0
            for d, label in zip(distances[image].astype(np.float64), labels[image], strict=True):
                if (label >= 0).any():
                    alpha2 = d[label >= 0].min()
                    p += np.exp(-d[label == c] / (alpha2 + eps)).sum()
            if p > 0:
                result[image, c] = np.log(p / counts[c])
    return result


@contextlib.contextmanager
def running_at(level: str, threads: int) -> Iterator[None]:
    """An instruction-set level and a thread count for a while."""
    before = _core.isa(), pyhue.get_num_threads()
    _core.set_isa(level)
    pyhue.set_num_threads(threads)
    try:
        yield
    finally:
        _core.set_isa(before[0])
        pyhue.set_num_threads(before[1])
