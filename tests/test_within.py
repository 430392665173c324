"""All vectors within a radius, by brute force on the distances of the contract."""

import numpy as np
import pytest
from families import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import all_plans, random_clusters
from reference import distances32

import pyhue
from pyhue._search.index import Index
from pyhue._search.selection import Selection
from pyhue._search.stored import Stored


def _expected(queries, vectors, radius, left):
    """`left` (queries, n): which may be found."""
    limits, distances, rows = [0], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for query, may in zip(queries, left, strict=True):
        every = distances32(query, vectors)
        found = np.flatnonzero(may & (every.astype(np.float64) <= radius))
        found = found[np.argsort(every[found], kind="stable")]
        limits.append(limits[-1] + len(found))
        distances.append(every[found])
        rows.append(found)
    return np.array(limits), np.concatenate(distances), np.concatenate(rows)


def _assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("rank", [0, 3, 40])
def test_every_plan(isa, threads, rank):
    """The radius is a distance that occurs: the boundary belongs to it."""
    vectors, queries = draw("relu60", 330, 40), draw("relu60", 9, 40, 1)
    radius = float(np.sort(distances32(queries[4], vectors))[rank])
    mask, exclude = np.random.default_rng(0).random(330) < 0.5, np.arange(9) * 20
    every = np.ones((9, 330), bool)
    some = mask & (np.arange(330) != exclude[:, None])
    for plan in all_plans(vectors):
        clusters = None if plan.rotation is None else random_clusters(vectors[:200])
        index = Index(Stored(vectors[:200]), plan, clusters).extended(Stored(vectors[:300]))
        stored = Stored(vectors)
        _assert_same(index.within(stored, queries, radius), _expected(queries, vectors, radius, every))
        found = index.within(stored, queries, radius, Selection(where=mask, exclude=exclude))
        _assert_same(found, _expected(queries, vectors, radius, some))


@given(
    n=st.integers(1, 150),
    count=st.integers(0, 20),
    radius=st.sampled_from([0, 1, 2, 3.7, 6, 1e300, np.inf]),
    share=st.sampled_from([0.0, 0.02, 0.6, 1.0]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60)
def test_lattice(n, count, radius, share, seed):
    """Distances tie, and many are the radius."""
    vectors, queries = draw("lattice", n, 7, seed), draw("lattice", count, 7, seed + 1)
    memory = pyhue.PixelMemory(7, normalize=False)
    memory.add(vectors[:, None], np.arange(n) % 3)
    memory.remove(rows=[0])
    mask = np.random.default_rng(seed).random(n) < share
    left = np.repeat((mask & (np.arange(n) > 0) & (np.arange(n) % 3 < 2))[None], count, axis=0)
    found = memory.within(queries, radius, where=mask, labels=[0, 1])
    _assert_same(found, _expected(queries, vectors, radius, left))
    assert [part.dtype for part in found] == [np.int64, np.float32, np.int64]


def test_more_queries_than_a_pass():
    vectors = draw("lattice", 30, 5)
    memory = pyhue.VectorMemory(5, normalize=False)
    memory.add(vectors)
    queries = draw("lattice", 2100, 5, 1)
    _assert_same(memory.within(queries, 3), _expected(queries, vectors, 3, np.ones((2100, 30), bool)))


def test_a_query_without_direction_finds_nothing():
    memory = pyhue.VectorMemory(3)
    memory.add(np.concatenate((np.eye(3), np.zeros((1, 3)))))
    found = memory.within(np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]]), 9, exclude=[2, 0, -1])
    assert found.limits.tolist() == [0, 2, 2, 5]
    assert found.indices.tolist() == [0, 1, 2, 0, 1]


def test_a_radius_between_two_float32():
    memory = pyhue.VectorMemory(1, normalize=False)
    memory.add(np.array([[1.0], [2.0]]))
    zero = np.zeros((1, 1))
    assert memory.within(zero, 1.0).indices.tolist() == [0]
    assert memory.within(zero, np.nextafter(1.0, 0)).indices.tolist() == []
    assert memory.within(zero, 4).indices.tolist() == [0, 1]
    assert memory.within(zero, 10**400).indices.tolist() == [0, 1]  # which is no float


@pytest.mark.parametrize(("radius", "error"), [(-1, ValueError), (np.nan, ValueError), ("1", TypeError)])
def test_what_is_no_radius(radius, error):
    memory = pyhue.VectorMemory(2)
    memory.add(np.eye(2))
    with pytest.raises(error, match="radius: expected"):
        memory.within(np.eye(2), radius)
    with pytest.raises(ValueError, match=r"queries: expected shape \(n, 2\)"):
        memory.within(np.ones((1, 1, 2)), 1)
