"""Vectors without a direction: where vectors are normalised they keep their rows and are never found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_exact, stored

import pyhue


def _with_zeros(rng, n, dim, share):
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    vectors[rng.random(n) < share] = 0
    return vectors


@given(
    n=st.integers(1, 200),
    dim=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    k=st.integers(1, 210),
    pieces=st.integers(1, 4),
    optimize=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_search(n, dim, share, k, pieces, optimize, dtype, seed):
    rng = np.random.default_rng(seed)
    vectors, queries = _with_zeros(rng, n, dim, share), _with_zeros(rng, 6, dim, 0.3)
    memory = pyhue.VectorMemory(dim, dtype=dtype)
    for part in np.array_split(vectors, pieces):
        memory.add(part)
        if len(memory):
            memory.search(queries[:1], 1)
    if optimize:
        memory.optimize()
    zero = ~vectors.any(axis=1)
    assert (~memory.vectors.any(axis=1) == zero).all()
    assert_exact(
        memory.search(queries, k), stored(queries, normalize=True), memory.vectors, by_direction=True
    )


def test_raw_vectors_are_all_alike():
    memory = pyhue.VectorMemory(2, normalize=False)
    memory.add(np.array([[1.0, 0], [0, 0], [0, 2]]))
    distances, indices = memory.search(np.zeros(2), 3)
    assert indices.tolist() == [1, 0, 2]
    assert distances.tolist() == [0, 1, 4]


def test_votes_and_counts():
    activations = np.zeros((3, 2, 2))
    activations[0] = [[1, 0], [0, 0]]
    activations[1] = [[0, 1], [0, 2]]
    memory = pyhue.PixelMemory(2)
    memory.add(activations, [7, 3, 5])  # all of class 5 is zero
    assert memory.classes.tolist() == [3, 5, 7]
    assert memory.class_counts.tolist() == [2, 0, 1]
    query = np.array([[[2.0, 0.1], [0, 0]]])
    likelihood = memory.log_likelihood(query, k=6)
    np.testing.assert_array_equal(likelihood, memory.log_likelihood(query[:, :1], k=6))
    assert np.isneginf(likelihood[0, 1])
    assert memory.predict(query).tolist() == [7]
    assert np.isneginf(memory.log_likelihood(np.zeros((1, 2, 2)))).all()


def test_few_zeros_do_not_outvote_sparse_vectors():
    """Sparse vectors are farther than 1 from each other, which is their distance from zero."""
    axes = np.eye(40)
    activations = np.concatenate((axes[:20, None] + axes[20:, None], np.zeros((1, 1, 40))))
    memory = pyhue.PixelMemory(40)
    memory.add(activations, [0] * 20 + [1])
    query = axes[3] + axes[20] + axes[21] + axes[5] + axes[6]
    assert memory.predict(query[None, None], k=10).tolist() == [0]


def test_files_and_copies_know_them(tmp_path):
    import pickle

    rng = np.random.default_rng(0)
    vectors, queries = _with_zeros(rng, 3000, 12, 0.2), rng.standard_normal((5, 12))
    memory = pyhue.PixelMemory(12)
    memory.add(vectors[:, None], np.arange(3000) % 4)
    memory.optimize()
    memory.save(tmp_path / "memory.safetensors")
    loaded = pyhue.PixelMemory.load(tmp_path / "memory.safetensors")
    for other in (loaded, pickle.loads(pickle.dumps(memory))):
        np.testing.assert_array_equal(other.class_counts, memory.class_counts)
        for k in (10, 3000):
            np.testing.assert_array_equal(other.search(queries, k).indices, memory.search(queries, k).indices)
        other.add(np.zeros((1, 3, 12)), [9])
        assert other.class_counts[-1] == 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_gpu(gpu, share, dtype):
    from gpu import moved

    rng = np.random.default_rng(1)
    cpu, memory = pyhue.PixelMemory(20, dtype=dtype), moved(pyhue.PixelMemory(20, dtype=dtype), gpu)
    for images in (100, 1, 30, 200):
        activations = _with_zeros(rng, images * 5, 20, share).reshape(images, 5, 20)
        for each in (cpu, memory):
            each.add(activations, np.arange(images) % 7)
        queries = _with_zeros(rng, 30, 20, 0.2).reshape(6, 5, 20)
        for k in (3, 700):
            expected, found = (each.search(queries, k) for each in (cpu, memory))
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_array_equal(found.distances, expected.distances)
        likelihoods = [each.log_likelihood(queries) for each in (cpu, memory)]
        np.testing.assert_allclose(*likelihoods, rtol=1e-13)
        np.testing.assert_array_equal(cpu.predict(queries), memory.predict(queries))
