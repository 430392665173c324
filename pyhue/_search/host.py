"""Search and classification on the CPU."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import floating, like, positive_integer, vector_rows
from pyhue._search.index import Index
from pyhue._search.optimize import optimized, unoptimized
from pyhue.density import density
from pyhue.pixel_vectors import image_vectors

if TYPE_CHECKING:
    from pyhue.memory import PixelMemory

_OPTIMIZE_FROM = 20_000  # vectors: the first search of a memory of at least so many optimises it
_packing = threading.Lock()  # held while a memory's index is made or brought up to date


def _renew_lock() -> None:
    global _packing
    _packing = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # the thread that held it may not exist there


class HostSearch:
    """Answers as `PixelMemory` does, on the CPU; its packed form of the memory follows what is added."""

    def __init__(self, index: Index | None = None):
        self.index = index  #: None before the first search

    def search(self, memory: PixelMemory, vectors: Any, k: int) -> tuple[Any, Any]:
        """`PixelMemory.search`."""
        queries = floating(vectors, "vectors")
        if queries.ndim < 1 or queries.shape[-1] != memory.dim:
            raise ValueError(f"vectors: expected shape (..., {memory.dim}), got {queries.shape}")
        found = self._search(memory, queries.reshape(-1, memory.dim), "vectors", k)
        shape = (*queries.shape[:-1], found[0].shape[1])
        distances, indices = (like(result.reshape(shape), vectors) for result in found)
        return distances, indices

    def log_likelihood(self, memory: PixelMemory, activations: Any, k: int, eps: float) -> Any:
        """`PixelMemory.log_likelihood`."""
        vectors = floating(image_vectors(floating(activations, "activations"), memory.dim), "activations")
        images, pixels = vectors.shape[:2]
        rows = vectors.reshape(images * pixels, memory.dim)
        distances, indices = self._search(memory, rows, "activations", k)
        labels = np.where(indices >= 0, memory.labels[indices], -1)
        shape = (images, pixels, distances.shape[1])
        result: NDArray[np.float64] = density(
            distances.reshape(shape), labels.reshape(shape), memory.class_counts, eps
        )
        return like(result, activations)

    def optimize(self, memory: PixelMemory) -> None:
        """`PixelMemory.optimize`."""
        memory._require_vectors()
        with _packing:
            self.index = None  # its memory is needed for the next one
            self.index = optimized(memory._stored, memory.images)

    def ready_index(self, memory: PixelMemory) -> Index:
        """The index, holding every vector."""
        stored = memory._stored
        with _packing:
            if self.index is None:
                large = len(memory) >= _OPTIMIZE_FROM
                self.index = optimized(stored, memory.images) if large else unoptimized(stored)
            self.index = self.index.extended(stored)
            return self.index

    def _search(
        self, memory: PixelMemory, rows: NDArray[np.floating[Any]], name: str, k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        k = positive_integer(k, "k")
        memory._require_vectors()
        queries = vector_rows(rows, name, memory.normalize)
        return self.ready_index(memory).search(memory._stored, queries, k)
