"""Search with a recall against the exact search, on real activations and noisy copies of them.

Run: PYHUE_DATA=... python -m pytest bench/bench_recall.py --benchmark-only

PYHUE_BENCH_COPIES=7 adds so many copies (times 1 + 0.3 normal): 1.55 million vectors, 6 GB. Queries are
those of ten images that are not stored. PYHUE_BENCH_HNSW=FILE also builds hnswlib's graph (M 24,
ef_construction 100; minutes to an hour), keeps it in FILE, and takes its least `ef` that reaches the same
recall.
"""

import os
import time

import numpy as np
import pytest

import pyhue

COPIES = int(os.environ.get("PYHUE_BENCH_COPIES", "0"))
HNSW = os.environ.get("PYHUE_BENCH_HNSW")
RECALLS = (0.9, 0.95, 0.99)
K = 10


def batches(activations):
    """What is stored: all images but ten, some at a time, then copies; and which images these are."""
    rng = np.random.default_rng(0)
    for copy in range(COPIES + 1):
        for begin in range(10, len(activations), 64):
            batch = np.asarray(activations[begin : begin + 64], np.float32)
            if copy:
                batch *= 1 + 0.3 * rng.standard_normal(batch.shape, np.float32)
            yield batch, slice(begin, begin + 64)


@pytest.fixture(scope="module")
def searched(real_activations):
    """The memory, queries, and where asked for the rival's index and how it was made."""
    activations, labels = real_activations("int8")
    memory = pyhue.PixelMemory(1280, dtype="bfloat16" if COPIES else "float32")
    for batch, images in batches(activations):
        memory.add(batch, labels[images])
    memory.optimize()
    graph = made_graph(activations, len(memory), HNSW) if HNSW else None
    return memory, np.asarray(activations[:10], np.float32).reshape(-1, 1280), graph


def made_graph(activations, count, file):
    """hnswlib's index of vectors that are not zero, and how it was made."""
    import hnswlib

    index = hnswlib.Index("l2", activations.shape[2])
    begin = time.perf_counter()
    if os.path.exists(file):
        index.load_index(file)
        made = f"read from {file}"
    else:
        index.init_index(count, ef_construction=100, M=24)
        index.set_num_threads(pyhue.get_num_threads())
        first = 0
        for batch, _ in batches(activations):
            vectors = batch.reshape(-1, activations.shape[2])
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            filled = np.flatnonzero(norms)
            index.add_items(vectors[filled] / norms[filled], first + filled)
            first += len(vectors)
        made = f"built in {time.perf_counter() - begin:.0f} s"
        index.save_index(file)
    index.set_num_threads(pyhue.get_num_threads())
    return index, made


def recall_of(found, exact):
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("recall", RECALLS)
def test_recall(searched, turns, report, recall):
    memory, queries, made = searched
    exact, found = memory.search(queries, K), memory.search(queries, K, recall=recall)
    same = found.indices == exact.indices
    np.testing.assert_array_equal(found.distances[same], exact.distances[same])
    rivals = {"exact": lambda: memory.search(queries, K)}
    reached = recall_of(found.indices, exact.indices)
    graph = ""
    if made:
        index, how = made
        unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
        for ef in (10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480):
            index.set_ef(ef)
            theirs = recall_of(index.knn_query(unit, K)[0], exact.indices)
            if theirs >= reached:
                break
        rivals["hnswlib"] = lambda: index.knn_query(unit, K)
        graph = f", hnswlib with ef {ef} recall {theirs:.3f}, {how}"
    times = turns(lambda: memory.search(queries, K, recall=recall), rivals, 5)
    told = ", ".join(f"{name} {len(queries) / seconds:7.0f}" for name, seconds in times.items())
    report(
        f"{len(memory):>8} vectors, recall={recall}: reached {reached:.3f}; queries a second: {told}{graph}"
    )
