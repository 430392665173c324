"""What `pyhue bench` measures: exact search of a file's pixel vectors, beside FAISS where it is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._config import config, get_num_threads
from pyhue._demo.brute_force import brute_force, require_same_neighbors
from pyhue._files.tables import markdown
from pyhue._openblas import VARIABLE, fastest_kernel
from pyhue._stderr import progress_bar
from pyhue.features import Features
from pyhue.pixel_vectors import pixel_vectors
from pyhue.vector_memory import VectorMemory

_ROUNDS = 5
_AT_ONCE = 256  # images added together
_BLAS_THRESHOLDS = (0, 20)  # of FAISS: how many queries make it multiply matrices; the better one counts
_Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]


class Turn(NamedTuple):
    """Medians of seconds for some queries; the rival's by the better of its settings."""

    queries: int
    pyhue: float
    rival: float


class Bench(NamedTuple):
    """What was measured; `str` gives the table that the command prints."""

    vectors: int
    dim: int
    zeros: float  #: share of the stored values
    k: int
    rival: str
    seconds_to_pack: float
    explained: dict[str, Any]  #: `VectorMemory.explain`
    environment: dict[str, str]
    turns: list[Turn]

    def __str__(self) -> str:
        rows = [
            [
                f"{of.queries:,}",
                f"{1e3 * of.pyhue:.2f} ms",
                f"{1e3 * of.rival:.2f} ms",
                f"{of.rival / of.pyhue:.1f}x",
            ]
            for of in self.turns
        ]
        told = self.environment
        return "\n".join(
            (
                f"Exact search of {self.vectors:,} pixel vectors of {self.dim:,} channels, {self.zeros:.0%} "
                f"zeros, k = {self.k}; the same neighbours.",
                "",
                markdown(["queries", f"pyhue {told['pyhue']}", self.rival, "faster"], rows),
                "",
                f"{told['CPU']}, {told['threads']} threads, {told['instruction set'].split()[0]}; medians of "
                f"{_ROUNDS} alternating turns. Plan {self.explained['plan']}, packed in "
                f"{self.seconds_to_pack:.1f} s, {self.explained['bytes_per_vector']:,.0f} bytes a vector.",
            )
        )


def bench(features: Features, images: int, k: int) -> Bench:
    """Asks for the neighbours of some images' pixel vectors in a memory of all others'.

    Args:
        features: of at least one image more.
        images: how many are asked, evenly spread over the file.
        k: neighbours of each vector.

    Raises:
        ValueError: there are not more images than are asked.
        RuntimeError: the two do not find the same neighbours.
    """
    total = len(features.activations)
    if images >= total:
        raise ValueError(f"images: expected fewer than the {total} of the file, got {images}")
    asked = np.arange(images) * total // images
    stored = np.delete(np.arange(total), asked)
    memory = VectorMemory(features.activations.shape[1])
    for part in np.array_split(stored, -(-len(stored) // _AT_ONCE)):
        memory.add(pixel_vectors(features.activations[part]).reshape(-1, memory.dim))
    begin = time.perf_counter()
    memory.optimize()
    seconds = time.perf_counter() - begin
    queries = pixel_vectors(features.activations[asked]).reshape(-1, memory.dim).astype(np.float32)
    queries = queries[queries.any(axis=1)]
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    with _rival(memory, k) as (name, searches):
        counts = sorted({len(unit), min(len(unit), features.activations[0, 0].size), 1}, reverse=True)
        turns = [_turn(memory, searches, unit[:count], k) for count in counts]
    zeros = 1 - np.count_nonzero(memory.vectors) / memory.vectors.size
    return Bench(len(memory), memory.dim, zeros, k, name, seconds, memory.explain(), config(), turns)


@contextlib.contextmanager
def _rival(memory: VectorMemory, k: int) -> Iterator[tuple[str, list[_Search]]]:
    """Its name and its searches, rows of the memory; its settings are put back at the end."""
    rows = np.flatnonzero(memory.vectors.any(axis=1))  # what can be found
    vectors = memory.vectors if len(rows) == len(memory) else memory.vectors[rows]
    if not importlib.util.find_spec("faiss"):
        yield "NumPy (FAISS is not installed)", [lambda queries: rows[brute_force(vectors, queries, k)]]
        return
    kernel = fastest_kernel(get_num_threads())
    if kernel:
        os.environ[VARIABLE] = kernel
    import faiss

    if kernel:
        del os.environ[VARIABLE]
    name = f"FAISS {faiss.__version__} IndexFlatIP" + (f", {VARIABLE}={kernel}" if kernel else "")
    index = faiss.IndexFlatIP(memory.dim)  # which ranks alike at unit length, and is faster than IndexFlatL2
    index.add(vectors)

    def search(threshold: int) -> _Search:
        def with_threshold(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            faiss.cvar.distance_compute_blas_threshold = threshold
            return np.asarray(rows[index.search(queries, k)[1]])

        return with_threshold

    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(get_num_threads())
    try:
        yield name, [search(threshold) for threshold in _BLAS_THRESHOLDS]
    finally:
        faiss.omp_set_num_threads(before[0])
        faiss.cvar.distance_compute_blas_threshold = before[1]


def _turn(memory: VectorMemory, searches: list[_Search], queries: NDArray[np.float32], k: int) -> Turn:
    """Every search has its turn in every round, and begins with a call that is not timed."""
    calls: list[_Search] = [lambda given: memory.search(given, k).indices, *searches]
    found = [call(queries) for call in calls]
    for other in found[1:]:
        require_same_neighbors(memory.vectors, queries, found[0], other)
    times = np.empty((_ROUNDS, len(calls)))
    for row in progress_bar(times, f"{len(queries)} queries", unit="round"):
        for column, call in enumerate(calls):
            call(queries)
            begin = time.perf_counter()
            call(queries)
            row[column] = time.perf_counter() - begin
    ours, *theirs = (statistics.median(column) for column in times.T)
    return Turn(len(queries), ours, min(theirs))
