"""Cost of search against the number of stored vectors, on real activations: a table, and docs/scaling.png.

Run: PYHUE_DATA=... python -m pytest bench/bench_scaling.py --benchmark-only
"""

import functools
from pathlib import Path

import faiss
import numpy as np
import pytest

import pyhue
from pyhue._demo.brute_force import require_same_neighbors

SIZES = (25_000, 50_000, 100_000, 194_000)
COPIES = (3, 7)  # of all 194,000, with noise, beside them: 776,000 and 1,550,000
CASES = [(n, 0) for n in SIZES] + [(SIZES[-1], copies) for copies in COPIES]
NETS = ("int8", "float")
PLOT = Path(__file__).parents[1] / "docs" / "scaling.png"
_points: dict[str, list[tuple[int, float, float]]] = {}


@pytest.fixture(scope="module", autouse=True)
def picture():
    """Of all points, or none: a part would take the place of a whole picture."""
    yield
    if sum(map(len, _points.values())) == len(CASES) * len(NETS):
        _plot()


def _faiss_searches(vectors, unit):
    """By the functions that IndexFlatL2 and IndexFlatIP call, of the memory's own array, with both settings.

    All vectors have unit length.
    """

    def search(metric, threshold):
        faiss.cvar.distance_compute_blas_threshold = threshold
        return faiss.knn(unit, vectors, 10, metric=metric)[1]

    metrics = {"L2": faiss.METRIC_L2, "IP": faiss.METRIC_INNER_PRODUCT}
    return {
        f"{name} {threshold}": functools.partial(search, metric, threshold)
        for name, metric in metrics.items()
        for threshold in (0, 20)
    }


@pytest.mark.parametrize(("n", "copies"), CASES)
@pytest.mark.parametrize("net", NETS)
def test_scaling(real_activations, noisy_copies, turns, quickest, report, fma_peak, net, n, copies):
    """FAISS with the setting that is its fastest here."""
    activations, _ = real_activations(net)
    memory = pyhue.VectorMemory(1280)
    for part in noisy_copies(activations[10 : 10 + n // 49], copies):
        memory.add(part)
    memory.optimize()
    queries = np.asarray(activations[:10], np.float32).reshape(-1, 1280)
    queries = queries[queries.any(axis=1)]
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    vectors = np.asarray(memory.vectors)
    faiss.omp_set_num_threads(pyhue.get_num_threads())
    searches, found = _faiss_searches(vectors, unit), memory.search(queries).indices
    for search in searches.values():
        require_same_neighbors(vectors, unit, found, search())
    best = quickest(searches)
    times = turns(lambda: memory.search(queries), {"faiss": searches[best]}, 3 if copies else 5)
    ours, theirs = times["pyhue"] / len(queries), times["faiss"] / len(queries)
    _points.setdefault(net, []).append((len(memory), ours, theirs))
    rate = 2e-9 * vectors.size / ours
    report(
        f"{net:<6} {len(memory):>7} vectors: {ours * 1e6:7.1f} us a query, {rate:.0f} GF-eq, "
        f"{rate / fma_peak:.2f} of FMA peak; FAISS {best} {theirs * 1e6:7.1f} us, {theirs / ours:5.2f}x"
    )


def _plot():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    names = {"int8": "59 % zeros", "float": "85 % zeros"}
    for (net, points), color in zip(_points.items(), ("C0", "C1"), strict=False):
        n, ours, theirs = np.array(points).T
        axes.loglog(n, ours * 1e6, "o-", color=color, label=f"pyhue, {names[net]}")
        axes.loglog(n, theirs * 1e6, "s--", color=color, alpha=0.6, label=f"FAISS Flat, {names[net]}")
    n = max((np.array(points)[:, 0] for points in _points.values()), key=len)
    axes.set_xticks(n, [f"{v / 1000:,.0f}k" for v in n], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("stored vectors (1,280 channels); beyond 194k with noisy copies")
    axes.set_ylabel("time a query, µs")
    axes.set_title(f"Exact search of real activations: 490 queries, {pyhue.get_num_threads()} threads")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)
