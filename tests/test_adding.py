"""Adding while other threads search: they see the memory of one moment, and wait for nobody's packing."""

import threading
from typing import NamedTuple

import numpy as np
import pytest
from families import draw
from gpu import moved
from reference import assert_exact, assert_same, exact_search, memory_of
from together import in_threads

import pyhue
from pyhue._cuda import search as device_search
from pyhue._search import host


class _Seen(NamedTuple):
    """An answer, and how many vectors there were before and after it."""

    begin: int
    end: int
    queries: np.ndarray
    result: pyhue.SearchResult


def _assert_of_one_moment(seen, vectors):
    """Fails unless the answer is that of some number of vectors between the two."""
    for count in range(seen.begin, seen.end + 1):
        distances, indices = exact_search(seen.queries, vectors[:count], seen.result.indices.shape[1])
        if (indices == seen.result.indices).all() and (distances == seen.result.distances).all():
            return
    raise AssertionError(f"no memory of {seen.begin} to {seen.end} vectors answers so")


def _add_while_others_search(memory, optimizing):
    """Two writers, two readers and one that optimises."""
    dim, batch, batches = memory.dim, 3, 60
    labelled = isinstance(memory, pyhue.PixelMemory)
    added, writing = [], threading.Lock()

    def add(some):
        with writing:  # so that the order is known
            memory.add(*((some[:, None], np.arange(len(some))) if labelled else (some,)))
            added.append(some)

    def write(seed):
        rng = np.random.default_rng(seed)
        for _ in range(batches):
            add(rng.integers(-1, 2, (batch, dim)).astype(np.float32))

    seen = []

    def read(seed):
        queries = draw("lattice", 4, dim, seed)
        for _ in range(60):
            begin = len(memory)
            result = memory.search(queries, 9)
            seen.append(_Seen(begin, len(memory), queries, result))

    def optimize():
        for _ in range(optimizing):
            memory.optimize()

    add(draw("lattice", 40, dim))
    in_threads([lambda: write(1), lambda: write(2), lambda: read(3), lambda: read(4), optimize])
    whole = np.concatenate(added)
    np.testing.assert_array_equal(memory.vectors, whole)
    assert len(seen) == 120
    for each in seen:
        _assert_of_one_moment(each, whole)
    _assert_of_one_moment(_Seen(len(whole), len(whole), whole[:5], memory.search(whole[:5], 9)), whole)


@pytest.mark.parametrize("kind", [pyhue.VectorMemory, pyhue.PixelMemory])
def test_adding_while_others_search(kind, monkeypatch):
    """Packing goes on all the time."""
    monkeypatch.setattr("pyhue._search.host._PACK_AFTER", 20)
    _add_while_others_search(kind(24, normalize=False), optimizing=3)


@pytest.mark.parametrize("kind", [pyhue.VectorMemory, pyhue.PixelMemory])
def test_several_writers(kind):
    """Nothing is lost, and vectors, rows and labels stay together."""
    memory = kind(4096, normalize=False)  # so that copying takes a while, without the GIL
    rows = {}

    def write(number):
        for i in range(25):
            vectors = np.full((9, 4096), 100 * number + i, np.float32)
            if kind is pyhue.VectorMemory:
                rows[number, i] = memory.add(vectors)
            else:
                memory.add(vectors[:, None], np.full(9, 100 * number + i))

    in_threads([lambda number=number: write(number) for number in range(4)])
    assert len(memory) == 4 * 25 * 9
    values = memory.vectors[:, 0]
    assert (memory.vectors == values[:, None]).all()
    for (number, i), some in rows.items():
        assert (values[some] == 100 * number + i).all()
    if kind is pyhue.PixelMemory:
        np.testing.assert_array_equal(memory.labels, values)
        np.testing.assert_array_equal(memory.images, np.arange(900))
        assert memory.class_counts.tolist() == [9] * 100


def test_adding_while_others_search_on_a_gpu(gpu):
    _add_while_others_search(moved(pyhue.VectorMemory(24, normalize=False), gpu), optimizing=0)


def _vote_while_classes_are_added(memory):
    """Labels, counts and vectors are of one moment: every class answers for its own image.

    For each vote that begins the writer adds a class, beside it.
    """
    count = memory.dim
    axes = np.eye(count)[:, None]
    memory.add(axes[:1], [count])
    begun, wrong = threading.Semaphore(0), []

    def write():
        for i in range(1, count):
            assert begun.acquire(timeout=60)
            memory.add(axes[i : i + 1], [count - i])  # each class goes before all others

    def read():
        known = 0
        while known < count:
            known = len(memory)
            begun.release()
            found = memory.predict(axes[:known], k=1)
            likelihood = memory.log_likelihood(axes[:known], k=1)
            if found.tolist() != [count - i for i in range(known)] or likelihood.shape[1] < known:
                wrong.append(found)

    in_threads([write, read, read])
    assert not wrong
    assert memory.classes.tolist() == list(range(1, count + 1))


def test_votes_while_classes_are_added():
    _vote_while_classes_are_added(pyhue.PixelMemory(100))


def test_votes_while_classes_are_added_on_a_gpu(gpu):
    _vote_while_classes_are_added(moved(pyhue.PixelMemory(24), gpu))


def _vote_while_a_class_is_added(memory, monkeypatch, where):
    """It comes after the vote has begun, before the search."""
    axes = np.eye(8)[:, None]
    memory.add(axes[:3], [5, 7, 9])
    real = where.query_rows

    def slow(*arguments):
        monkeypatch.undo()
        memory.add(axes[3:4], [3])
        return real(*arguments)

    monkeypatch.setattr(where, "query_rows", slow)
    assert memory.predict(axes[:4], k=1).tolist() == [5, 7, 9, 3]
    monkeypatch.setattr(where, "query_rows", slow)
    assert memory.search(axes[:4, 0], 2).indices[:, 0].tolist() == [0, 1, 2, 3]
    assert len(memory) == 5


def test_a_class_that_is_added_while_a_vote_begins(monkeypatch):
    _vote_while_a_class_is_added(pyhue.PixelMemory(8), monkeypatch, host)


def test_a_class_that_is_added_while_a_vote_begins_on_a_gpu(gpu, monkeypatch):
    _vote_while_a_class_is_added(moved(pyhue.PixelMemory(8), gpu), monkeypatch, device_search)


def test_optimizing_one_memory_does_not_stall_another(monkeypatch):
    """Nor searches of the same one: they go on with the form that there is."""
    vectors, queries = draw("relu60", 300, 16), draw("relu60", 4, 16, 1)
    ours, theirs = memory_of(vectors), memory_of(vectors)
    expected = ours.search(queries, 5)
    begun, go_on = threading.Event(), threading.Event()
    real = host.optimized

    def slow(*arguments):
        begun.set()
        assert go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(host, "optimized", slow)
    thread = threading.Thread(target=ours.optimize)
    thread.start()
    try:
        assert begun.wait(60)
        ours.add(vectors[None, :5], [1])
        for memory in (theirs, ours):
            assert_same(
                pyhue.SearchResult(*(part[:, :1] for part in memory.search(queries, 5))),
                pyhue.SearchResult(*(part[:, :1] for part in expected)),
            )
        assert "gf_eq" not in ours.explain()
    finally:
        go_on.set()
        thread.join()
    assert "gf_eq" in ours.explain()
    assert_exact(ours.search(queries, 5), queries, ours.vectors)


def test_adding_does_not_wait_for_packing(monkeypatch):
    monkeypatch.setattr("pyhue._search.host._PACK_AFTER", 4)
    vectors, queries = draw("relu60", 300, 16), draw("relu60", 4, 16, 1)
    memory = memory_of(vectors[:100])
    memory.search(queries)
    begun, go_on = threading.Event(), threading.Event()
    real = host.extended

    def slow(*arguments):
        begun.set()
        assert go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(host, "extended", slow)
    memory.add(vectors[None, 100:200], [1])
    thread = threading.Thread(target=memory.search, args=(queries,))
    thread.start()
    try:
        assert begun.wait(60)
        memory.add(vectors[None, 200:], [2])
        assert_exact(memory.search(queries, 5), queries, vectors)
        assert memory.explain()["vectors"] == 100
    finally:
        go_on.set()
        thread.join()
    assert memory.explain()["vectors"] == 200
