"""Queries are searched in batches: the same bits as all at once, and memory that does not grow with them."""

import tracemalloc

import numpy as np
import pytest
from families import draw
from plans import all_plans, random_clusters
from reference import assert_exact

import pyhue
from pyhue._search import index as searching
from pyhue._search.index import Index
from pyhue._search.selection import Selection
from pyhue._search.stored import Stored

DIM, N, COUNT = 40, 330, 23
VECTORS, QUERIES = draw("relu60", N, DIM), draw("relu60", COUNT, DIM, 1)
GROUPS = np.arange(COUNT) * 10


def indexes():
    """Packed with clusters, packed later, and not packed."""
    for plan in all_plans(VECTORS):
        clusters = None if plan.rotation is None else random_clusters(VECTORS[:200])
        yield Index(Stored(VECTORS[:200]), plan, clusters).extended(Stored(VECTORS[:300]))


def everything(index):
    """What all kinds of search find, one array after the other."""
    stored, excluding = Stored(VECTORS), Selection(exclude=GROUPS)
    few = Selection(where=np.arange(N) < 9, exclude=GROUPS)
    found = []
    for selection in (Selection(), excluding, few):
        found += index.search(stored, QUERIES, 6, selection)
        found += index.within(stored, QUERIES, 9.0, selection)
    return found


@pytest.mark.parametrize("batch", [1, 5, COUNT])
def test_the_same_bits(monkeypatch, threads, batch):
    for index in indexes():
        expected = everything(index)
        with monkeypatch.context() as patch:
            patch.setattr(searching, "_BATCH", batch)
            for found, whole in zip(everything(index), expected, strict=True):
                np.testing.assert_array_equal(found, whole)


def test_batches_are_exact(monkeypatch):
    monkeypatch.setattr(searching, "_BATCH", 5)
    for index in indexes():
        found = pyhue.SearchResult(*index.search(Stored(VECTORS), QUERIES, 6))
        assert_exact(found, QUERIES, VECTORS)


def test_others_agree_once_about_all(monkeypatch):
    monkeypatch.setattr(searching, "_BATCH", 5)
    asked = []

    def agreed(near):
        asked.append(near)
        return np.ascontiguousarray(near[:, -1])

    index = list(indexes())[3]
    assert index.clusters is not None
    stored = Stored(VECTORS)
    distances, rows, work = index.counted_search(stored, QUERIES, 6, agreed=agreed)
    assert [near.shape for near in asked] == [(COUNT, 6)]
    assert np.isfinite(asked[0]).any()
    assert work.queries == COUNT
    for found, whole in zip((distances, rows), index.search(stored, QUERIES, 6), strict=True):
        np.testing.assert_array_equal(found, whole)


def test_no_queries():
    for index in indexes():
        assert index.search(Stored(VECTORS), QUERIES[:0], 6)[1].shape == (0, 6)
        limits, distances, rows = index.within(Stored(VECTORS), QUERIES[:0], 9.0)
        assert limits.tolist() == [0]
        assert limits.dtype == rows.dtype == np.int64
        assert (len(distances), distances.dtype) == (0, np.float32)


def _peak(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("kind", ["search", "within"])
def test_memory_does_not_grow_with_queries(monkeypatch, kind):
    """But for results: coordinates of all queries at once would be 8 bytes each."""
    monkeypatch.setattr(searching, "_BATCH", 100)
    vectors, queries = draw("relu60", 200, 256), draw("relu60", 2000, 256, 1)
    stored = Stored(vectors)
    plan = all_plans(vectors)[3]
    assert plan.rotation is not None
    index = Index(stored, plan, random_clusters(vectors))
    searches = {
        "search": lambda n: index.search(stored, queries[:n], 1),
        "within": lambda n: index.within(stored, queries[:n], 0.0),
    }
    searches[kind](100)  # what is made once
    grown = _peak(lambda: searches[kind](2000)) - _peak(lambda: searches[kind](100))
    assert grown < 0.1 * 8 * queries.size
