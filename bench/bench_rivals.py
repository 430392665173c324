"""Real activations against other ways to search: FAISS Panorama, USearch, HNSW; int8 ones, not exact.

Run: PYHUE_DATA=... python -m pytest bench/bench_rivals.py --benchmark-only
Needs `pip install hnswlib usearch` beside the benchmarks' own packages. Rivals take turns with pyhue in one
process, with the same threads; what claims to be exact is asserted to find the same.
"""

import time

import faiss
import numpy as np
import pytest

import pyhue
from pyhue._demo.brute_force import require_same_neighbors

K = 10


class Searched:
    """The memory, its vectors that can be found, and the queries."""

    def __init__(self, activations, labels):
        self.memory = pyhue.PixelMemory(1280)
        self.memory.add(activations[10:], labels[10:])
        self.memory.optimize()
        self.vectors = np.asarray(self.memory.vectors)
        self.rows = np.flatnonzero(self.vectors.any(axis=1))
        self.stored = np.ascontiguousarray(self.vectors[self.rows])
        queries = np.asarray(activations[:10], np.float32).reshape(-1, 1280)
        queries = queries[queries.any(axis=1)]
        self.queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        self.exact = self.memory.search(self.queries, K).indices

    def require_exact(self, found, count):
        require_same_neighbors(self.vectors, self.queries[:count], self.exact[:count], self.rows[found])

    def recall(self, found):
        found = self.rows[found]
        return np.mean([np.isin(a, b).mean() for a, b in zip(self.exact[: len(found)], found, strict=True)])


@pytest.fixture(scope="module")
def searched(real_activations):
    faiss.omp_set_num_threads(pyhue.get_num_threads())
    return Searched(*real_activations("int8"))


@pytest.fixture(scope="module")
def panoramas(searched):
    """By its levels: vectors in principal coordinates, dropped by the norms of what was not read."""
    indexes = {}
    for levels in (8, 16, 32, 64):
        index = faiss.index_factory(1280, f"PCA1280,FlatL2Panorama{levels}")
        index.train(searched.stored[:: max(1, len(searched.stored) // 30_000)])
        index.add(searched.stored)
        indexes[levels] = index
    return indexes


@pytest.mark.parametrize("count", [1, 8, 32, 49, 490])
def test_panorama(searched, panoramas, turns, quickest, report, count):
    queries = searched.queries[:count]
    rivals = {levels: lambda index=index: index.search(queries, K)[1] for levels, index in panoramas.items()}
    for search in rivals.values():
        searched.require_exact(search(), count)
    rounds, levels = 3 if count == 490 else 7, quickest(rivals)
    best = {levels: rivals[levels]}
    times = turns(lambda: searched.memory.search(queries, K), best, rounds, warm=count < 490)
    report(
        f"{len(queries):>4} queries {times['pyhue'] * 1e3:7.2f} ms; FAISS PCA1280,FlatL2Panorama{levels} "
        f"{times[levels] * 1e3:8.1f} ms, {times[levels] / times['pyhue']:.1f}x"
    )


def _usearch(dataset, queries):
    from usearch.index import MetricKind, search

    found = search(dataset, queries, K, MetricKind.L2sq, exact=True, threads=pyhue.get_num_threads())
    return np.asarray(found.keys).astype(np.int64).reshape(len(queries), K)


@pytest.mark.parametrize("count", [1, 49])
def test_usearch(searched, turns, report, count):
    """Its exact search of float32; of int8, where what it finds are the nearest of other vectors."""
    pytest.importorskip("usearch", reason="usearch is not installed: pip install usearch")
    queries = searched.queries[:count]
    searched.require_exact(_usearch(searched.stored, queries), count)
    scale = 127 / np.abs(searched.stored).max()
    bytes_of = [
        np.rint(array * scale).clip(-127, 127).astype(np.int8) for array in (searched.stored, queries)
    ]
    rivals = {
        "float32": lambda: _usearch(searched.stored, queries),
        "int8": lambda: _usearch(*bytes_of),
    }
    recall = searched.recall(rivals["int8"]())
    times = turns(lambda: searched.memory.search(queries, K), rivals, 5, warm=True)
    ours = times["pyhue"]
    report(
        f"{len(queries):>4} queries {ours * 1e3:7.2f} ms; USearch exact {times['float32'] * 1e3:.1f} ms, "
        f"{times['float32'] / ours:.1f}x; of int8, NOT exact, recall {recall:.4f}: "
        f"{times['int8'] * 1e3:.1f} ms, {times['int8'] / ours:.1f}x"
    )


@pytest.mark.parametrize("count", [1, 49, 490])
def test_scalar_quantizer(searched, turns, report, count):
    """FAISS's 8-bit codes, all compared: not exact."""
    index = faiss.index_factory(1280, "SQ8")
    index.train(searched.stored[::10])
    index.add(searched.stored)
    queries = searched.queries[:count]
    recall = searched.recall(index.search(queries, K)[1])
    rounds = 3 if count == 490 else 7
    times = turns(
        lambda: searched.memory.search(queries, K),
        {"SQ8": lambda: index.search(queries, K)},
        rounds,
        warm=True,
    )
    report(
        f"{len(queries):>4} queries {times['pyhue'] * 1e3:7.2f} ms; FAISS SQ8, NOT exact, recall "
        f"{recall:.4f}: {times['SQ8'] * 1e3:.1f} ms, {times['SQ8'] / times['pyhue']:.1f}x"
    )


def test_hnsw(searched, turns, report):
    """An approximate rival: hnswlib at recall 0.99."""
    hnswlib = pytest.importorskip("hnswlib", reason="hnswlib is not installed: pip install hnswlib")
    index = hnswlib.Index("l2", 1280)
    begin = time.perf_counter()
    index.init_index(len(searched.stored), ef_construction=100, M=24)
    index.set_num_threads(pyhue.get_num_threads())
    index.add_items(searched.stored)
    built = time.perf_counter() - begin
    queries = searched.queries
    for ef in (20, 40, 80, 120, 160, 240, 320, 480, 640, 960):
        index.set_ef(ef)
        recall = searched.recall(index.knn_query(queries, K)[0].astype(np.int64))
        if recall >= 0.99:
            break
    times = turns(
        lambda: searched.memory.search(queries, K),
        {"hnswlib": lambda: index.knn_query(queries, K)},
        warm=True,
    )
    ours, theirs = len(queries) / times["pyhue"], len(queries) / times["hnswlib"]
    report(
        f"hnswlib, built in {built:.0f} s, ef {ef}, recall {recall:.4f}: {theirs:.0f} queries/s; "
        f"pyhue, exact: {ours:.0f} queries/s, {ours / theirs:.2f}x"
    )
