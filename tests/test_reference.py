"""The judges judged: a comparator that cannot fail proves nothing."""

import numpy as np
import pytest
from families import FAMILIES, draw
from reference import assert_neighbors, density64, distances32, distances64, exact_search, rounding


def _case(n=50, nq=5, k=6, dim=40):
    vectors, queries = draw("normal", n, dim), draw("normal", nq, dim, seed=1)
    return queries, vectors, *exact_search(queries, vectors, k)


def test_accepts_the_exact_answer():
    queries, vectors, distances, indices = _case()
    assert_neighbors(distances, indices, queries, vectors)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_distances_are_within_the_rounding_bound(family):
    vectors, query = draw(family, 60, 70), draw(family, 1, 70, seed=1)[0]
    exact, computed = distances64(query, vectors), distances32(query, vectors)
    finite = np.isfinite(computed)
    assert (np.abs(computed - exact) <= rounding(exact, 70))[finite].all()
    assert (exact[~finite] > 3.4e38).all()


def test_float32_distances_by_hand():
    query, vector = np.zeros(33, np.float32), np.zeros((1, 33), np.float32)
    vector[0, 0], vector[0, 32], vector[0, 16] = 4096, 1, 1
    # Elements 0 and 32 share a partial sum: 2^24 + 1 rounds to 2^24, and so does the addition of element 16.
    assert distances32(query, vector)[0] == 2**24
    vector[0] = 0
    vector[0, 0], vector[0, 1], vector[0, 17] = 4096, 1, 1
    # Elements 1 and 17 meet first: 2 is added at the end, and survives.
    assert distances32(query, vector)[0] == 2**24 + 2


def test_accepts_either_order_of_a_near_tie():
    vectors = np.array([[1.0, 0.0], [1.0, 1e-5], [5.0, 0.0]], np.float32)
    queries = np.zeros((1, 2), np.float32)
    assert distances64(queries[0], vectors)[0] != distances64(queries[0], vectors)[1]
    one = np.ones((1, 1), np.float32)
    for index in (0, 1):
        assert_neighbors(one, np.array([[index]]), queries, vectors)
    with pytest.raises(AssertionError, match="nearer vector was left out"):
        assert_neighbors(25 * one, np.array([[2]]), queries, vectors)


def test_rejects_a_missed_neighbor():
    queries, vectors, distances, indices = _case()
    more, more_indices = exact_search(queries, vectors, 7)
    distances[2, 5], indices[2, 5] = more[2, 6], more_indices[2, 6]
    with pytest.raises(AssertionError, match="nearer vector was left out"):
        assert_neighbors(distances, indices, queries, vectors)


def test_rejects_a_wrong_distance():
    queries, vectors, distances, indices = _case()
    distances[0, 5] *= np.float32(1 + 1e-5)
    with pytest.raises(AssertionError, match="a distance is wrong"):
        assert_neighbors(distances, indices, queries, vectors)


def test_rejects_infinity_for_a_finite_distance():
    queries, vectors, distances, indices = _case()
    distances[0, 5] = np.inf
    with pytest.raises(AssertionError, match="a distance is wrong"):
        assert_neighbors(distances, indices, queries, vectors)


def test_rejects_a_wrong_order():
    queries, vectors, distances, indices = _case()
    swapped = [1, 0, 2, 3, 4, 5]
    with pytest.raises(AssertionError, match="not sorted"):
        assert_neighbors(distances[:, swapped], indices[:, swapped], queries, vectors)


def test_rejects_a_tie_in_the_wrong_order():
    vectors, queries = np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32)
    distances = np.zeros((1, 2), np.float32)
    assert_neighbors(distances, np.array([[0, 1]]), queries, vectors)
    with pytest.raises(AssertionError, match="not sorted"):
        assert_neighbors(distances, np.array([[1, 0]]), queries, vectors)


def test_rejects_a_repeated_neighbor():
    queries, vectors, distances, indices = _case()
    distances[1, 1], indices[1, 1] = distances[1, 0], indices[1, 0]
    with pytest.raises(AssertionError, match="appears twice"):
        assert_neighbors(distances, indices, queries, vectors)


@pytest.mark.parametrize("bad", [-1, 50, 10**12])
def test_rejects_an_index_out_of_range(bad):
    queries, vectors, distances, indices = _case()
    indices[0, 0] = bad
    with pytest.raises(AssertionError, match="index is"):
        assert_neighbors(distances, indices, queries, vectors)


def test_rejects_made_up_neighbors_beyond_the_memory():
    queries, vectors, distances, indices = _case(n=4)
    assert_neighbors(distances, indices, queries, vectors)
    indices[0, 5] = 0
    with pytest.raises(AssertionError, match="where there is no neighbour"):
        assert_neighbors(distances, indices, queries, vectors)
    indices[0, 5], distances[0, 5] = -1, 3
    with pytest.raises(AssertionError, match="where there is no neighbour"):
        assert_neighbors(distances, indices, queries, vectors)


def test_density_by_hand():
    distances = np.array([[[1.0, 3.0, 9.0]]])
    expected = [np.log((np.exp(-0.5) + np.exp(-4.5)) / 2), np.log(np.exp(-1.5) / 5), -np.inf]
    np.testing.assert_allclose(
        density64(distances, np.array([[[0, 1, 0]]]), np.array([2, 5, 1]), 1.0)[0], expected, rtol=1e-15
    )
