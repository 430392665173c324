"""Search with a recall against the exact search, on real activations and noisy copies of them.

Run: PYHUE_DATA=... python -m pytest bench/bench_recall.py --benchmark-only

PYHUE_BENCH_COPIES=7 adds so many copies (times 1 + 0.3 normal): 1.55 million vectors, 6 GB. Queries are
those of ten images that are not stored. PYHUE_BENCH_HNSW=1 also builds hnswlib's graph (M 24,
ef_construction 100; minutes to hours) and takes its least `ef` that reaches the same recall.
"""

import os
import time

import numpy as np
import pytest

import pyhue

COPIES = int(os.environ.get("PYHUE_BENCH_COPIES", "0"))
RECALLS = (0.9, 0.95, 0.99)
K = 10


@pytest.fixture(scope="module")
def memory_and_queries(real_activations):
    activations, labels = real_activations("int8")
    memory = pyhue.PixelMemory(1280, dtype="bfloat16" if COPIES else "float32")
    rng = np.random.default_rng(0)
    for copy in range(COPIES + 1):
        for begin in range(10, len(activations), 64):
            batch = np.asarray(activations[begin : begin + 64], np.float32)
            if copy:
                batch *= 1 + 0.3 * rng.standard_normal(batch.shape, np.float32)
            memory.add(batch, labels[begin : begin + 64])
    memory.optimize()
    return memory, np.asarray(activations[:10], np.float32).reshape(-1, 1280)


def recall_of(found, exact):
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("recall", RECALLS)
def test_recall(memory_and_queries, turns, report, recall):
    memory, queries = memory_and_queries
    exact, found = memory.search(queries, K), memory.search(queries, K, recall=recall)
    same = found.indices == exact.indices
    np.testing.assert_array_equal(found.distances[same], exact.distances[same])
    rivals = {"exact": lambda: memory.search(queries, K)}
    reached = recall_of(found.indices, exact.indices)
    graph = ""
    if os.environ.get("PYHUE_BENCH_HNSW"):
        index, built = _graph(memory)
        unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
        for ef in (10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480):
            index.set_ef(ef)
            theirs = recall_of(index.knn_query(unit, K)[0], exact.indices)
            if theirs >= reached:
                break
        rivals["hnswlib"] = lambda: index.knn_query(unit, K)
        graph = f", hnswlib with ef {ef} recall {theirs:.3f}, built in {built:.0f} s"
    times = turns(lambda: memory.search(queries, K, recall=recall), rivals, 5)
    told = ", ".join(f"{name} {len(queries) / seconds:7.0f}" for name, seconds in times.items())
    report(
        f"{len(memory):>8} vectors, recall={recall}: reached {reached:.3f}; queries a second: {told}{graph}"
    )


_graphs = {}


def _graph(memory):
    """The rival's index of what can be found, and the seconds that building it took."""
    if not _graphs:
        import hnswlib

        rows = np.flatnonzero(memory.vectors.any(axis=1))
        index = hnswlib.Index("l2", memory.dim)
        index.init_index(len(rows), ef_construction=100, M=24)
        index.set_num_threads(pyhue.get_num_threads())
        begin = time.perf_counter()
        index.add_items(memory.vectors[rows], rows)
        _graphs["index"] = index, time.perf_counter() - begin
    return _graphs["index"]
