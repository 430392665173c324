"""What a search among few of the vectors costs, against one among all; every answer is asserted equal.

Run: PYHUE_DATA=... python -m pytest bench/bench_selection.py --benchmark-only -s -o python_files='bench_*.py'
Masks: rows by chance; whole images. The mask itself costs what a search with an empty one does.
"""

import numpy as np
import pytest

import pyhue

K = 10


@pytest.fixture(scope="module")
def memory(real_activations):
    activations, labels = real_activations("int8")
    memory = pyhue.PixelMemory(activations.shape[-1])
    memory.add(activations[10:], labels[10:])
    memory.optimize()
    return memory, np.asarray(activations[:10], np.float32).reshape(-1, activations.shape[-1])


def mask_of(memory, kind, share):
    rng = np.random.default_rng(0)
    if kind == "rows by chance":
        return rng.random(len(memory)) < share
    images = memory.images[-1] + 1
    return np.isin(memory.images, rng.choice(images, max(1, int(share * images)), replace=False))


@pytest.mark.parametrize("kind", ["rows by chance", "whole images"])
@pytest.mark.parametrize("count", [490, 49, 1])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
def test_where(memory, turns, report, share, count, kind):
    memory, queries = memory
    queries = queries[:count]
    mask = mask_of(memory, kind, share)
    rows = np.flatnonzero(mask & (memory.vectors != 0).any(axis=1))  # without directions: never found
    unit = pyhue.VectorMemory(memory.dim)  # scales the queries as the memory does
    unit.add(queries)
    alone = pyhue.VectorMemory(memory.dim, normalize=False)
    alone.add(memory.vectors[rows])
    distances, indices = alone.search(unit.vectors, K)
    found = memory.search(queries, K, where=mask)
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(found.indices, np.where(indices >= 0, rows[indices], -1))
    none = np.zeros(len(memory), bool)
    rivals = {
        "all": lambda: memory.search(queries, K),
        "none": lambda: memory.search(queries, K, where=none),
    }
    times = turns(lambda: memory.search(queries, K, where=mask), rivals, 5, warm=True)
    ours, whole, look = times["pyhue"], times["all"], times["none"]
    report(
        f"{count:>4} queries, {kind:<14} {mask.mean():6.2%} of {len(memory)}: "
        f"{ours * 1e3:7.2f} ms, "
        f"{(ours - look) / whole:6.1%} of all ({whole * 1e3:.2f} ms) and the mask ({look * 1e3:.2f} ms)"
    )
