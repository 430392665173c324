"""What the first blocks of a search say of its threshold, and that nothing near is dropped for it."""

import numpy as np
import pytest

import pyhue

K = 10


def brute_force(vectors, queries, k):
    """The k smallest squared distances of each query, in float64."""
    distances = ((queries[:, None].astype(np.float64) - vectors) ** 2).sum(axis=2)
    return np.sort(distances, axis=1)[:, :k]


def test_they_leave_few_to_compare():
    rng = np.random.default_rng(0)
    memory = pyhue.VectorMemory(64)
    memory.add(rng.random((2000, 64), np.float32))
    memory.search(rng.random((600, 64), np.float32), K)  # which packs it
    queries = rng.random((600, 64), np.float32)
    memory.search(queries, K)
    assert memory._on_cpu.last.compared < 2.5 * K * len(queries)


@pytest.mark.parametrize("n", [64, 65, 127, 128, 200, 4096, 4200])
@pytest.mark.parametrize("k", [1, 10, 33, 100])
def test_nothing_near_is_dropped(n, k):
    rng = np.random.default_rng(n)
    # Far from the origin of the coordinates, where the padding of the last block would seem near.
    vectors = rng.standard_normal((n, 24), np.float32) + np.float32(3)
    queries = np.concatenate([vectors[:3], rng.standard_normal((20, 24), np.float32) + np.float32(3)])
    memory = pyhue.VectorMemory(24, normalize=False)
    memory.add(vectors)
    found = memory.search(np.tile(queries, (23, 1)), k).distances[: len(queries)]
    packed = memory.search(queries, k).distances
    assert (packed == found).all()
    true = brute_force(vectors, queries, k)
    np.testing.assert_allclose(packed[:, : true.shape[1]], true, rtol=1e-5, atol=1e-4)


def test_huge_and_equal_vectors():
    """Bounds without a number, and scores that all lanes share."""
    vectors = np.ones((300, 16), np.float32)
    vectors[::7] *= np.float32(1e18)
    vectors[5] = np.float32(-1e18)
    queries = np.concatenate([vectors[:14], np.zeros((1, 16), np.float32)])
    memory = pyhue.VectorMemory(16, normalize=False)
    memory.add(vectors)
    for _ in range(40):
        distances, indices = memory.search(queries, K)
    for row, query in enumerate(queries):
        with np.errstate(over="ignore"):
            each = ((query - vectors) ** 2).sum(axis=1)
        assert (distances[row] == np.sort(each, kind="stable")[:K]).all()
        assert (indices[row] == np.argsort(each, kind="stable")[:K]).all()


def test_an_infinite_radius_finds_all():
    rng = np.random.default_rng(0)
    memory = pyhue.VectorMemory(32)
    memory.add(rng.random((300, 32), np.float32))
    queries = rng.random((600, 32), np.float32)
    memory.search(queries)  # which packs it
    assert (np.diff(memory.within(queries[:9], np.inf).limits) == 300).all()
