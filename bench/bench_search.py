"""Exact search against FAISS Flat, scikit-learn and torch: real and random vectors, many and few; density.

Run: make bench, or: python -m pytest bench/bench_search.py --benchmark-only
Rivals take turns with pyhue in one process, with the same threads, arrays ready in float32, FAISS with the
better of its two settings; every turn begins with a call that is not timed.
Answers are asserted equal first: where indices differ, distances must tie.
GF-eq is 2 x vectors x dim x queries / time, whatever was skipped.
"""

import re
import statistics
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import pyhue
from pyhue._demo.brute_force import require_same_neighbors

K = 10


def filled(vectors, labels=None):
    """Vectors (n, dim), or pixel vectors (images, pixels, dim) with labels."""
    if labels is None:
        memory = pyhue.VectorMemory(vectors.shape[-1])
        memory.add(vectors)
    else:
        memory = pyhue.PixelMemory(vectors.shape[-1])
        memory.add(vectors, labels)
    return memory


def faiss_searches(vectors, queries):
    """Flat searches, each with both BLAS settings: by squared distance, and by inner product where that ranks
    alike, which is where every vector has unit length."""
    kinds = {"L2": faiss.IndexFlatL2}
    if min(np.abs(vectors).max(axis=1).min(), np.abs(queries).max(axis=1).min()) > 0:
        kinds["IP"] = faiss.IndexFlatIP
    faiss.omp_set_num_threads(pyhue.get_num_threads())
    searches = {}
    for name, kind in kinds.items():
        index = kind(vectors.shape[1])
        index.add(vectors)
        for threshold in (0, 20):

            def search(index=index, threshold=threshold):
                faiss.cvar.distance_compute_blas_threshold = threshold
                return index.search(queries, K)[1]

            searches[f"faiss {name} {threshold}"] = search
    return searches


def brute_force_searches(vectors, queries):
    """scikit-learn's brute force and torch's matmul + topk."""
    neighbors = NearestNeighbors(n_neighbors=K, algorithm="brute", n_jobs=pyhue.get_num_threads()).fit(
        vectors
    )
    x, q = torch.from_numpy(vectors.copy()), torch.from_numpy(queries)
    return {
        "scikit-learn": lambda: neighbors.kneighbors(queries, return_distance=False),
        "torch": lambda: torch.topk(q @ x.T, K).indices.numpy(),
    }


def compare(memory, queries, turns, report, peak, name, more_rivals=False, rounds=7, warm=True):
    vectors = np.asarray(memory.vectors)
    rows = np.flatnonzero(vectors.any(axis=1))  # what can be found: rivals store nothing else
    queries = queries[queries.any(axis=1)]
    unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
    rivals = faiss_searches(vectors[rows], unit)
    if more_rivals:
        rivals |= brute_force_searches(vectors[rows], unit)
    found = memory.search(queries, K).indices
    for search in rivals.values():
        require_same_neighbors(vectors, unit, found, rows[search()])
    times = turns(lambda: memory.search(queries, K), rivals, rounds, warm)
    ours, best = times["pyhue"], min(t for rival, t in times.items() if rival.startswith("faiss"))
    rate = 2e-9 * vectors.size * len(queries) / ours
    others = "".join(f"  {rival} {times[rival] / ours:5.1f}x" for rival in rivals if "faiss" not in rival)
    size = f"{len(vectors)} x {vectors.shape[1]}"
    report(
        f"{name:<24} {size:>13} {len(queries):>4} queries {ours * 1e3:8.2f} ms, {rate:5.0f} GF-eq, "
        f"{rate / peak:5.2f} of FMA peak; FAISS {best * 1e3:8.2f} ms, {best / ours:5.2f}x{others}; "
        f"plan {memory.explain()['plan']}"
    )


@pytest.fixture(scope="module")
def random_memory():
    memories = {}

    def make(n, dim):
        if (n, dim) not in memories:
            memories.clear()
            memories[n, dim] = filled(np.random.default_rng(0).random((n, dim), np.float32))
        return memories[n, dim]

    return make


@pytest.mark.parametrize("count", [490, 49, 1])
@pytest.mark.parametrize(("n", "dim"), [(98_000, 1280), (400_000, 256)])
def test_random(random_memory, turns, report, fma_peak, n, dim, count):
    queries = np.random.default_rng(1).random((count, dim), np.float32)
    compare(random_memory(n, dim), queries, turns, report, fma_peak, "uniform random", more_rivals=count > 1)


@pytest.fixture(scope="module")
def real_memory(real_activations):
    memories = {}

    def make(net, begin=10, end=None):
        """Of some images; and those before them, which ask."""
        if (net, begin, end) not in memories:
            memories.clear()
            activations, labels = real_activations(net)
            memory = filled(activations[begin:end], labels[begin:end])
            memory.optimize()
            memories[net, begin, end] = memory, np.asarray(activations[:begin], np.float32)
        return memories[net, begin, end]

    return make


@pytest.mark.parametrize(
    ("begin", "end", "count"),
    [(100, None, 4900), (10, 2010, 490), *((10, None, count) for count in (490, 49, 32, 8, 1))],
)
@pytest.mark.parametrize("net", ["int8", "float"])
def test_real(real_memory, turns, report, fma_peak, net, begin, end, count):
    memory, images = real_memory(net, begin, end)
    queries = images.reshape(-1, 1280)[:count]
    rounds = 3 if count >= 490 else 7  # FAISS takes seconds there, in each of four settings
    name, warm = f"real activations, {net}", count <= 490
    compare(memory, queries, turns, report, fma_peak, name, rounds=rounds, warm=warm)
    if count == 490:
        report(f"    {memory.explain()}")


@pytest.mark.parametrize("net", ["int8", "float"])
def test_other_images(real_memory, benchmark, report, net):
    """How much it matters which ten images ask: ten times ten, none of them stored."""
    memory, images = real_memory(net, 100)
    for count in (490, 49, 1):
        times = []
        for begin in range(0, 100, 10):
            queries = images[begin : begin + 10].reshape(-1, 1280)[:count]
            each = []
            for _ in range(9):
                start = time.perf_counter()
                memory.search(queries)
                each.append(1e3 * (time.perf_counter() - start))
            times.append(statistics.median(each[2:]))
        found = f"{min(times):.2f} to {max(times):.2f}, median {statistics.median(times):.2f} ms"
        report(f"real activations, {net}, {count} queries of ten times ten images: {found}")
    benchmark.pedantic(lambda: memory.search(queries), rounds=7)


def test_optimize(real_activations, benchmark, report):
    """Seconds, and resident memory at the peak and afterwards, of the bytes of the vectors in float32."""
    activations, labels = real_activations("int8")

    def resident(name):
        return 1024 * int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1])

    memory = pyhue.PixelMemory(activations.shape[-1])
    memory.add(activations[10:], labels[10:])
    size = 4 * len(memory) * memory.dim
    before = resident("RssAnon") - size
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    mapped = resident("RssFile")
    benchmark.pedantic(memory.optimize, rounds=1)
    peak, after = (resident("VmHWM") - mapped - before) / size, (resident("RssAnon") - before) / size
    seconds = benchmark.stats.stats.mean
    report(
        f"optimize, {len(memory)} vectors: {seconds:.1f} s; memory {peak:.2f} at the peak, {after:.2f} after"
    )


@pytest.mark.parametrize("net", ["int8", "float"])
def test_density(real_memory, turns, report, net):
    memory, images = real_memory(net)
    queries = images.reshape(-1, 1280)
    times = turns(
        lambda: memory.log_likelihood(images), {"search": lambda: memory.search(queries)}, 15, warm=True
    )
    extra = times["pyhue"] / times["search"] - 1
    report(f"density of 10 images, {net}: search {times['search'] * 1e3:.2f} ms, with density {extra:+.1%}")


def test_predictions_of_brute_force(real_memory, benchmark):
    """The class of every query image is the one that FAISS's neighbours give."""
    memory, images = real_memory("int8")
    index = faiss.IndexFlatL2(1280)
    rows = np.flatnonzero(memory.vectors.any(axis=1))
    index.add(memory.vectors[rows])
    queries = images.reshape(-1, 1280)
    distances, indices = index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), K)
    shape, indices = (len(images), 49, K), rows[indices]
    votes = pyhue.density(
        distances.reshape(shape), memory.labels[indices].reshape(shape), memory.class_counts
    )
    assert (benchmark(memory.predict, images) == votes.argmax(axis=1)).all()


def test_digits(turns, report, fma_peak):
    digits = load_digits().data.astype(np.float32)
    compare(filled(digits), digits, turns, report, fma_peak, "digits, all as queries", rounds=51)


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 10_000])
@pytest.mark.parametrize(("n", "dim"), [(2000, 64), (10_000, 128)])
def test_small(random_memory, turns, report, fma_peak, n, dim, count):
    queries = np.random.default_rng(1).random((count, dim), np.float32)
    compare(random_memory(n, dim), queries, turns, report, fma_peak, "small, uniform random", rounds=31)


def test_one_by_one(real_memory, real_activations, turns, report):
    """Each vector added as an image of its own: the plan's sample cannot tell which belong together."""
    memory, images = real_memory("int8")
    activations, labels = real_activations("int8")
    each = filled(activations[10:].reshape(-1, 1, 1280), np.repeat(labels[10:], 49))
    each.optimize()
    queries = images.reshape(-1, 1280)
    assert (each.search(queries, K).indices == memory.search(queries, K).indices).all()
    times = turns(
        lambda: each.search(queries, K), {"by image": lambda: memory.search(queries, K)}, 15, warm=True
    )
    ours, others = times["pyhue"], times["by image"]
    report(f"added one by one {ours * 1e3:.1f} ms, by image {others * 1e3:.1f} ms: {ours / others - 1:+.1%}")
