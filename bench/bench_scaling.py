"""Cost of search against the number of stored vectors, on real activations: a table, and docs/scaling.png.

Run: PYHUE_DATA=... python -m pytest bench/bench_scaling.py --benchmark-only
"""

from pathlib import Path

import faiss
import numpy as np
import pytest

import pyhue
from pyhue._demo.brute_force import require_same_neighbors

SIZES = (25_000, 50_000, 100_000, 194_000)
PLOT = Path(__file__).parents[1] / "docs" / "scaling.png"
_points: dict[str, list[tuple[int, float, float]]] = {}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("net", ["int8", "float"])
def test_scaling(real_activations, turns, report, net, n):
    activations, labels = real_activations(net)
    memory = pyhue.PixelMemory(1280)
    images = min(len(activations) - 10, n // 49)
    memory.add(activations[10 : 10 + images], labels[10 : 10 + images])
    memory.optimize()
    queries = np.asarray(activations[:10], np.float32).reshape(-1, 1280)
    queries = queries[queries.any(axis=1)]
    unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
    index = faiss.IndexFlatL2(1280)
    rows = np.flatnonzero(memory.vectors.any(axis=1))  # what can be found
    index.add(memory.vectors[rows])
    faiss.omp_set_num_threads(pyhue.get_num_threads())
    found, theirs = memory.search(queries).indices, rows[index.search(unit, 10)[1]]
    require_same_neighbors(memory.vectors, unit, found, theirs)
    times = turns(lambda: memory.search(queries), {"faiss": lambda: index.search(unit, 10)}, 5)
    ours, theirs = times["pyhue"] / 490, times["faiss"] / 490
    _points.setdefault(net, []).append((len(memory), ours, theirs))
    report(
        f"{net:<6} {len(memory):>7} vectors: {ours * 1e6:7.1f} us a query, FAISS {theirs * 1e6:7.1f} us, "
        f"{theirs / ours:5.2f}x"
    )
    if n == SIZES[-1] and net == "float":
        _plot()


def _plot():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    names = {"int8": "59 % zeros", "float": "85 % zeros"}
    for (net, points), color in zip(_points.items(), ("C0", "C1"), strict=False):
        n, ours, theirs = np.array(points).T
        axes.loglog(n, ours * 1e6, "o-", color=color, label=f"pyhue, {names[net]}")
        axes.loglog(n, theirs * 1e6, "s--", color=color, alpha=0.6, label=f"FAISS IndexFlatL2, {names[net]}")
    axes.set_xticks(n, [f"{v / 1000:.0f}k" for v in n], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("stored vectors (1,280 channels)")
    axes.set_ylabel("time a query, µs")
    axes.set_title(f"Exact search of real activations: 490 queries, {pyhue.get_num_threads()} threads")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)
