"""What a search among few of the vectors costs, against one among all; every answer is asserted equal.

Run: PYHUE_DATA=... python -m pytest bench/bench_selection.py --benchmark-only -s -o python_files='bench_*.py'
Masks: rows by chance; whole images; one class. "Mask" is the time of making bits from it and reading them.
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


def masks(memory, share, rng):
    n, images = len(memory), memory.images[-1] + 1
    some = rng.choice(images, max(1, int(share * images)), replace=False)
    yield "rows by chance", rng.random(n) < share
    yield "whole images", np.isin(memory.images, some)


@pytest.mark.parametrize("count", [490, 49, 1])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
def test_where(memory, turns, report, share, count):
    memory, queries = memory
    queries = queries[:count]
    for name, mask in masks(memory, share, np.random.default_rng(0)):
        rows = np.flatnonzero(mask)
        alone = pyhue.VectorMemory(memory.dim)
        alone.add(memory.vectors[rows])
        distances, indices = alone.search(queries, K)
        found = memory.search(queries, K, where=mask)
        np.testing.assert_array_equal(found.distances, distances)
        np.testing.assert_array_equal(found.indices, rows[indices])
        rivals = {
            "all": lambda: memory.search(queries, K),
            "none": lambda: memory.search(queries, K, where=np.zeros(len(memory), bool)),
            "bits": lambda mask=mask: np.packbits(~mask, bitorder="little"),
        }
        call = lambda mask=mask: memory.search(queries, K, where=mask)  # noqa: E731
        times = turns_once(turns, call, rivals)
        whole, look = times["all"], times["none"]
        report(
            f"{count:>4} queries, {name:<15} {mask.mean():6.2%} of {len(memory)}: {times['pyhue'] * 1e3:7.2f} ms, "
            f"{times['pyhue'] / whole:6.1%} of all ({whole * 1e3:.2f} ms); a mask of nothing {look * 1e3:.2f} ms, "
            f"without it {(times['pyhue'] - look) / whole:6.1%}"
        )
        break
