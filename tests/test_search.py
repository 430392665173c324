"""Search equals the contract bit for bit: at every level, whatever the data, shape, batch and threads."""

import numpy as np
import pytest
from families import FAMILIES, draw
from reference import assert_exact, assert_neighbors, assert_same, exact_search, memory_of, stored

import pyhue
from pyhue import _core


def _check(family, n, dim, k, nq=9, normalize=False):
    """Searches n vectors with some of themselves and with others of the family."""
    vectors = draw(family, n, dim)
    queries = np.concatenate([draw(family, nq, dim, seed=1), vectors[:: max(1, n // 3)][:3]])
    memory = memory_of(vectors, normalize=normalize)
    result = memory.search(queries, k)
    compared = stored(queries, normalize=normalize)
    assert_exact(result, compared, memory.vectors, normalize)
    assert_neighbors(*result, compared, memory.vectors, normalize)


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "normalized"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(isa, family, normalize):
    _check(family, n=300, dim=70, k=10, normalize=normalize)


@pytest.mark.parametrize("family", ["normal", "relu85", "translated 1e3", "one ulp"])
@pytest.mark.parametrize("dim", [1, 2, 3, 7, 31, 32, 33, 63, 64, 65, 127, 1280])
def test_dims(isa, dim, family):
    _check(family, n=129, dim=dim, k=10)


@pytest.mark.parametrize("k", [1, 10, 100, 6000])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 129, 1000, 5000])
def test_sizes(isa, n, k):
    _check("relu60", n=n, dim=33, k=k, nq=2)


def test_largest_dim(isa):
    _check("relu60", n=70, dim=4096, k=10)


@pytest.mark.parametrize("family", ["relu85", "duplicated", "20 orders", "huge 1e18"])
def test_real_dim_many_vectors(isa, threads, family):
    _check(family, n=2000, dim=1280, k=10, nq=5)


@pytest.mark.parametrize("family", ["relu60", "lattice", "one ulp", "overflow", "20 orders"])
def test_batch_size_changes_nothing(isa, threads, family):
    memory = memory_of(draw(family, 1000, 65))
    queries = draw(family, 490, 65, seed=1)
    whole = memory.search(queries, 10)
    assert_exact(pyhue.SearchResult(*(part[:20] for part in whole)), queries[:20], memory.vectors)
    for batch in (1, 7, 49):
        parts = [memory.search(queries[i : i + batch], 10) for i in range(0, len(queries), batch)]
        assert_same(pyhue.SearchResult(*map(np.concatenate, zip(*parts, strict=True))), whole)


@pytest.mark.parametrize("dim", [256, 1280, 4096])
def test_rounding_of_long_sums(isa, dim):
    """Data that rounds nowhere but in the sums of a screening kernel."""
    _check("bfloat16", n=600, dim=dim, k=10)


def test_more_queries_than_one_pass(isa, threads):
    memory = memory_of(draw("lattice", 200, 16))
    queries = draw("lattice", 2500, 16, seed=1)
    assert_exact(memory.search(queries, 3), queries, memory.vectors)


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_and_threads_change_nothing(family):
    vectors, queries = draw(family, 700, 90), draw(family, 60, 90, seed=1)
    before = _core.isa(), pyhue.get_num_threads()
    expected = memory_of(vectors).search(queries, 10)
    try:
        for level in _core.available_isas():
            for count in (1, 2, 3, 8):
                _core.set_isa(level)
                pyhue.set_num_threads(count)
                assert_same(memory_of(vectors).search(queries, 10), expected)
    finally:
        _core.set_isa(before[0])
        pyhue.set_num_threads(before[1])


@pytest.mark.parametrize("family", ["relu60", "duplicated", "overflow", "zeros"])
def test_smaller_k_is_a_prefix(isa, threads, family):
    memory = memory_of(draw(family, 500, 40))
    queries = draw(family, 20, 40, seed=1)
    most = memory.search(queries, 500)
    for k in (1, 2, 10, 100, 499):
        assert_same(memory.search(queries, k), pyhue.SearchResult(*(part[:, :k] for part in most)))


@pytest.mark.parametrize("k", [1, 10, 100, 1024, 3000])
def test_large_k(isa, threads, k):
    vectors, queries = draw("lattice", 3000, 20), draw("lattice", 4, 20, seed=1)
    assert_exact(memory_of(vectors).search(queries, k), queries, vectors)


@pytest.mark.parametrize("k", [6, 64, 1000])
def test_k_beyond_the_memory(isa, k):
    vectors, queries = draw("normal", 5, 12), draw("normal", 3, 12, seed=1)
    distances, indices = memory_of(vectors).search(queries, k)
    assert (np.sort(indices[:, :5], axis=1) == np.arange(5)).all()
    assert (indices[:, 5:] == -1).all()
    assert np.isposinf(distances[:, 5:]).all()


def test_overflowed_distances_are_neighbors_too(isa):
    vectors = np.full((70, 3), 3e38, np.float32)
    vectors[66] = 0
    distances, indices = memory_of(vectors).search(np.full((1, 3), -3e38, np.float32), 72)
    assert indices[0].tolist() == [*range(70), -1, -1]
    assert np.isposinf(distances).all()
    assert memory_of(vectors).search(np.zeros(3, np.float32), 3).indices.tolist() == [66, 0, 1]


@pytest.mark.parametrize("pieces", [2, 9, 130, 500])
@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "normalized"])
def test_adding_in_pieces_equals_adding_at_once(isa, pieces, normalize):
    vectors, queries = draw("relu60", 500, 48), draw("relu60", 10, 48, seed=1)
    whole, parts = (memory_of(vectors, normalize=normalize, pieces=p) for p in (1, pieces))
    np.testing.assert_array_equal(whole.vectors, parts.vectors)
    assert_same(parts.search(queries, 10), whole.search(queries, 10))


@pytest.mark.parametrize("family", ["relu60", "translated 1e3", "20 orders", "zeros"])
def test_adding_after_searching(isa, threads, family):
    memory = pyhue.PixelMemory(30, normalize=False)
    queries = draw(family, 12, 30, seed=1)
    for round_, count in enumerate([1, 3, 60, 64, 1, 200, 63, 700]):
        memory.add(draw(family, count, 30, seed=round_ + 2)[None], [round_])
        assert_exact(memory.search(queries, 10), queries, memory.vectors)


def test_adding_far_from_what_was_there(isa):
    memory = memory_of(draw("normal", 100, 30))
    memory.search(np.zeros(30, np.float32), 1)
    for offset in (1e6, -1e12, 1e19, 1e-20):
        memory.add((draw("normal", 100, 30) * offset)[None].astype(np.float32), [0])
        queries = np.concatenate([draw("normal", 5, 30, seed=1), memory.vectors[-3:]])
        assert_exact(memory.search(queries, 10), queries, memory.vectors)


@pytest.mark.parametrize("family", ["relu60", "relu85"])
def test_ties_among_thousands_of_duplicates(isa, threads, family):
    vectors = np.repeat(draw(family, 40, 24), 60, axis=0)
    np.random.default_rng(3).shuffle(vectors)
    queries = vectors[:40]
    result = memory_of(vectors).search(queries, 70)
    assert_exact(result, queries, vectors)
    assert (result.distances[:, :60] == 0).all()


def test_normalized_search_sees_directions_only(isa):
    vectors, queries = draw("relu60", 400, 64), draw("relu60", 20, 64, seed=1)
    scales = np.exp2(np.random.default_rng(2).integers(-60, 60, (400, 1))).astype(np.float32)
    expected = memory_of(vectors, normalize=True).search(queries, 10)
    assert_same(memory_of(vectors * scales, normalize=True).search(queries * np.float32(2), 10), expected)


def test_search_of_the_whole_oracle_is_not_trivial():
    """The families do exercise ties, overflow and distinct answers."""
    ties, overflow = (draw(f, 300, 70) for f in ("duplicated", "overflow"))
    distances, _ = exact_search(ties[:1], ties, 10)
    assert (distances == 0).all()
    distances, _ = exact_search(overflow[:1], overflow, 300)
    assert np.isinf(distances).any()
    assert np.isfinite(distances).any()
