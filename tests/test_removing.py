"""What was removed is as good as never added, but for the numbers of rows."""

import pickle
import threading

import numpy as np
import pytest
from families import draw
from reference import exact_search
from together import in_threads

import pyhue


def _assert_without(memory, vectors, removed, queries, k=7):
    rows = np.setdiff1d(np.arange(len(vectors)), removed)
    distances, indices = exact_search(queries, vectors[rows], k)
    found = memory.search(queries, k)
    np.testing.assert_array_equal(found.indices, np.where(indices >= 0, rows[indices], -1))
    np.testing.assert_array_equal(found.distances, distances)


def test_rows(isa, threads, tmp_path):
    vectors, queries = draw("relu60", 300, 24), draw("relu60", 9, 24, 1)
    memory = pyhue.VectorMemory(24, normalize=False)
    memory.add(vectors[:200])
    memory.search(queries)
    assert memory.remove([3, 199, 3, 7]) == 3
    memory.add(vectors[200:])
    assert memory.remove(np.arange(7, 250)) == 241
    gone = np.concatenate(([3], np.arange(7, 250)))
    assert len(memory) == 300
    assert np.flatnonzero(memory.removed).tolist() == gone.tolist()
    memory.save(tmp_path / "memory.safetensors")
    loaded = pyhue.VectorMemory.load(tmp_path / "memory.safetensors")
    for each in (memory, loaded, pickle.loads(pickle.dumps(memory))):
        _assert_without(each, vectors, gone, queries)
        each.optimize()
        _assert_without(each, vectors, gone, queries)
        numbers = each.compact()
        kept = np.setdiff1d(np.arange(300), gone)
        assert (numbers[gone] == -1).all()
        assert numbers[kept].tolist() == list(range(len(kept)))
        np.testing.assert_array_equal(each.vectors, vectors[kept])
        _assert_without(each, vectors[kept], [], queries)
        each.add(vectors[:5])
        _assert_without(each, np.concatenate((vectors[kept], vectors[:5])), [], queries)
        assert not each.removed.any()


def test_where_and_removed():
    vectors, queries = draw("lattice", 300, 6), draw("lattice", 9, 6, 1)
    memory = pyhue.VectorMemory(6, normalize=False)
    memory.add(vectors)
    memory.remove(np.arange(0, 300, 2))
    for rows in (np.arange(5), np.arange(200)):  # few are compared directly
        where = np.zeros(300, bool)
        where[rows] = True
        left = rows[rows % 2 == 1]
        distances, indices = exact_search(queries, vectors[left], 9)
        found = memory.search(queries, 9, where=where)
        np.testing.assert_array_equal(found.indices, np.where(indices >= 0, left[indices], -1))
        np.testing.assert_array_equal(found.distances, distances)


@pytest.mark.parametrize("by", ["rows", "images", "labels"])
def test_votes_and_counts(by, tmp_path):
    activations = np.maximum(np.random.default_rng(0).standard_normal((30, 5, 12)), 0)
    activations[::4, 1] = 0
    labels = np.arange(30) % 3 * 10
    memory = pyhue.PixelMemory(12)
    memory.add(activations[:20], labels[:20])
    memory.log_likelihood(activations[:3])
    gone = np.flatnonzero(labels[:20] == 10) if by == "labels" else np.array([0, 4, 7])
    rows = (gone[:, None] * 5 + np.arange(5)).ravel()
    assert memory.remove(**{by: {"rows": rows, "images": gone, "labels": [10]}[by]}) == len(rows)
    memory.add(activations[20:], labels[20:])
    left = np.setdiff1d(np.arange(30), gone)
    alone = pyhue.PixelMemory(12)
    alone.add(activations[left], labels[left])
    memory.save(tmp_path / "memory.safetensors")
    loaded = pyhue.PixelMemory.load(tmp_path / "memory.safetensors")
    for each in (memory, loaded, pickle.loads(pickle.dumps(memory))):
        np.testing.assert_array_equal(each.class_counts, alone.class_counts)
        expected = alone.log_likelihood(activations, 4)
        np.testing.assert_array_equal(each.log_likelihood(activations, 4), expected)
        each.compact()
        np.testing.assert_array_equal(each.class_counts, alone.class_counts)
        np.testing.assert_array_equal(each.images, np.repeat(left, 5))
        np.testing.assert_array_equal(each.log_likelihood(activations, 4), expected)
        each.add(activations[:1], [10])
        assert each.images[-1] == 30


def test_what_does_not_fit():
    memory = pyhue.PixelMemory(4)
    memory.add(np.eye(4)[:, None], [0, 1, 2, 3])
    for arguments, error, message in (
        ({}, TypeError, "rows, images, labels: expected one"),
        ({"rows": [0, 4]}, ValueError, "rows: expected 0 to 3"),
        ({"images": [-1]}, ValueError, "images: expected 0 to 3"),
        ({"labels": [0.5]}, TypeError, "labels: expected integers"),
    ):
        with pytest.raises(error, match=message):
            memory.remove(**arguments)
    with pytest.raises(ValueError, match="rows: expected none, there are none in the memory, got 3"):
        pyhue.PixelMemory(4).remove([3])
    assert not memory.removed.any()
    memory.remove(labels=[2, 77])
    assert memory.classes.tolist() == [0, 1, 2, 3]
    assert memory.class_counts.tolist() == [1, 1, 0, 1]
    memory.compact()
    assert memory.classes.tolist() == [0, 1, 3]


@pytest.mark.parametrize("compacting", [False, True])
def test_removing_while_others_search(monkeypatch, compacting):
    """Vector i has the value i, so the nearest to 0 are the first that are left at one moment."""
    monkeypatch.setattr("pyhue._search.host._PACK_AFTER", 20)
    memory = pyhue.VectorMemory(8, normalize=False)
    memory.add(np.repeat(np.arange(400.0)[:, None], 8, axis=1))
    done, wrong = threading.Event(), []

    def write():
        first = 0
        for i in range(60):
            memory.remove(np.arange(first, first + 3))
            first += 3
            if compacting and i % 4 == 3:
                memory.compact()
                first = 0
            memory.add(np.full((1, 8), 400.0 + i))
        done.set()

    def read():
        last = 0.0
        while not done.is_set():
            values = np.sqrt(memory.search(np.zeros((1, 8)), 5).distances[0] / 8)
            if values[0] % 3 or values[0] < last or (np.diff(values.round(3)) != 1).any():
                wrong.append(values)
            last = values[0]

    in_threads([write, read, read])
    assert not wrong
    assert (len(memory) == 400 + 60 - 180) == compacting
