"""All vectors within a radius, by searches for more and more neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyhue.vector_memory import VectorMemory

_FIRST = 64  # neighbours asked for at first; then twice as many, where all of them are within
_AT_ONCE = 1 << 22  # entries of a search's result


def within(
    memory: VectorMemory, queries: NDArray[np.float32], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Limits (n + 1,), Euclidean distances and rows: those of query i lie from limits[i] to limits[i + 1].

    Nearest first, ties to the lower row. At `radius` is within. A query with m vectors within costs a search
    for fewer than 4 m, and those for half, a quarter, ... as many.
    """
    found: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = [(np.empty(0), np.empty(0, np.int64))]
    found *= len(queries)
    pending, k = np.arange(len(queries)), min(_FIRST, len(memory))
    while len(pending):
        open_ = []
        for part in np.array_split(pending, -(-len(pending) * k // _AT_ONCE)):
            squares, rows = memory.search(queries[part], k)
            distances = np.sqrt(squares.astype(np.float64))
            counts = (distances <= radius).sum(axis=1)
            for query, count, near, which in zip(part, counts, distances, rows, strict=True):
                if count == k < len(memory):
                    open_.append(query)
                else:
                    found[query] = near[:count].copy(), which[:count].copy()
        pending, k = np.array(open_, np.int64), min(2 * k, len(memory))
    limits = np.cumsum([0, *(len(rows) for _, rows in found)])
    distances, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return limits, distances, rows
