"""Searching among some of the vectors is searching a memory of these alone, to the bit."""

import numpy as np
import pytest
from families import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import all_plans, random_clusters
from reference import exact_search

import pyhue
from pyhue._search.chunked import ChunkedArray
from pyhue._search.index import Index
from pyhue._search.selection import Selection
from pyhue._search.stored import Stored

SHARES = [0.0, 0.02, 0.12, 0.6, 1.0]


def _expected(queries, vectors, mask, k, exclude=None, groups=None, by_direction=False):
    """The contract on what is left for each query, with the numbers of all."""
    distances = np.full((len(queries), k), np.inf, np.float32)
    indices = np.full((len(queries), k), -1)
    for i, query in enumerate(queries):
        left = mask if exclude is None else mask & (groups != exclude[i])
        rows = np.flatnonzero(left)
        if len(rows):
            near, found = exact_search(query[None], vectors[rows], k, by_direction)
            distances[i], indices[i] = near[0], np.where(found[0] >= 0, rows[found[0]], -1)
    return distances, indices


def _assert_same(found, expected):
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("share", SHARES)
def test_every_plan(isa, threads, share):
    """Packed with clusters, packed later, and not packed."""
    vectors, queries = draw("relu60", 330, 40), draw("relu60", 9, 40, 1)
    mask = np.random.default_rng(0).random(len(vectors)) < share
    exclude = np.arange(9) * 20
    expected = _expected(queries, vectors, mask, 6)
    expected_others = _expected(queries, vectors, mask, 6, exclude, np.arange(len(vectors)))
    for plan in all_plans(vectors):
        clusters = None if plan.rotation is None else random_clusters(vectors[:200])
        index = Index(Stored(vectors[:200]), plan, clusters).extended(Stored(vectors[:300]))
        stored = Stored(vectors)
        _assert_same(index.search(stored, queries, 6, Selection(where=mask)), expected)
        _assert_same(
            index.search(stored, queries, 6, Selection(where=mask, exclude=exclude)), expected_others
        )


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_a_few_rows_are_packed_for_many_queries(isa, threads, dtype):
    """Of several chunks and with another plan; few queries compare them, and then nothing is screened."""
    vectors, queries = draw("relu60", 900, 70), draw("relu60", 60, 70, 1)
    bits = vectors.view(np.uint32) >> 16 << 16 if dtype == np.uint16 else vectors.view(np.uint32)
    vectors = bits.view(np.float32)
    array = (bits >> 16).astype(np.uint16) if dtype == np.uint16 else vectors
    stored = Stored(ChunkedArray([array[:400], array[400:]]))
    mask = np.zeros(900, bool)
    mask[np.random.default_rng(0).choice(900, 25, replace=False)] = True
    for plan in all_plans(vectors):
        index = Index(stored, plan)
        for count, screened in ((60, True), (9, False)):
            found = index.counted_search(stored, queries[:count], 6, Selection(where=mask))
            _assert_same(found, _expected(queries[:count], vectors, mask, 6))
            assert found[2].pairs == count * 25
            assert (found[2].survivors < found[2].pairs) == screened


@given(
    n=st.integers(1, 150),
    count=st.integers(1, 20),
    k=st.integers(1, 12),
    share=st.sampled_from(SHARES),
    family=st.sampled_from(["lattice", "relu60"]),
    normalize=st.booleans(),
    seed=st.integers(0, 5),
)
@settings(max_examples=80)
def test_any_shape(n, count, k, share, family, normalize, seed):
    rng = np.random.default_rng(seed)
    memory = pyhue.VectorMemory(7, normalize=normalize)
    memory.add(draw(family, n, 7, seed))
    asked = draw(family, count, 7, seed + 1)
    queries = pyhue.VectorMemory(7, normalize=normalize)
    queries.add(asked)
    mask, exclude = rng.random(n) < share, rng.integers(-1, n, count)
    found = memory.search(asked, k, where=mask, exclude=exclude)
    groups = np.arange(n)
    _assert_same(
        found, _expected(queries.vectors, memory.vectors, mask, k, exclude, groups, by_direction=normalize)
    )


def _images(count, seed=0):
    activations = np.maximum(np.random.default_rng(seed).standard_normal((count, 5, 12)), 0)
    activations[::3, 0] = 0  # which nobody finds
    return activations


def _memory(activations, labels):
    memory = pyhue.PixelMemory(12)
    memory.add(activations, labels)
    return memory


def test_leaving_one_out_is_a_memory_without_it():
    activations, labels = _images(12), np.arange(12) % 3
    memory = _memory(activations, labels)
    exclude = np.arange(12)
    likelihood = memory.log_likelihood(activations, 4, exclude=exclude)
    predicted = memory.predict(activations, 4, exclude=exclude)
    nearest = memory.search(activations, 4, exclude=exclude)
    one = memory.search(activations[0, 0], 4, exclude=0)
    for alone, every in zip(one, nearest, strict=True):
        np.testing.assert_array_equal(alone, every[0, 0])
    for image in exclude:
        others = exclude != image
        without = _memory(activations[others], labels[others])
        np.testing.assert_array_equal(likelihood[image], without.log_likelihood(activations[[image]], 4)[0])
        assert predicted[image] == without.predict(activations[[image]], 4)[0]
        np.testing.assert_array_equal(
            nearest.distances[image], without.search(activations[image], 4).distances
        )
    some = memory.log_likelihood(activations, 4, exclude=np.where(exclude == 2, 2, -1))
    np.testing.assert_array_equal(some[2], likelihood[2])
    np.testing.assert_array_equal(
        np.delete(some, 2, 0), np.delete(memory.log_likelihood(activations, 4), 2, 0)
    )


@pytest.mark.parametrize("left", [[0, 2], [1]])
def test_classes_and_masks_are_a_memory_of_these(left):
    activations, labels = _images(24), np.arange(24) % 3
    memory, asked = _memory(activations, labels), _images(6, 1)
    keep = np.isin(labels, left) & (np.arange(24) % 2 == 0)
    alone = _memory(activations[keep], labels[keep])
    where = memory.images % 2 == 0
    found = memory.log_likelihood(asked, 4, where=where, labels=left)
    np.testing.assert_array_equal(found[:, left], alone.log_likelihood(asked, 4))
    assert np.isneginf(np.delete(found, left, axis=1)).all()
    np.testing.assert_array_equal(memory.predict(asked, 4, where=where, labels=left), alone.predict(asked, 4))
    np.testing.assert_array_equal(
        memory.search(asked, 4, where=where, labels=left).distances, alone.search(asked, 4).distances
    )
    exclude = np.array([0, 2, 4, 6, 1, -1])
    both = memory.log_likelihood(asked, 4, where=where, labels=left, exclude=exclude)
    for i, image in enumerate(exclude):
        rest = keep & (np.arange(24) != image)
        expected = _memory(activations[rest], labels[rest]).log_likelihood(asked[[i]], 4)[0]
        np.testing.assert_array_equal(both[i, left], expected)


def test_rows_behind_the_mask_are_left_out():
    vectors = draw("lattice", 50, 6)
    memory = pyhue.VectorMemory(6, normalize=False)
    memory.add(vectors)
    found = memory.search(vectors[:3], 60, where=np.ones(20, bool))
    _assert_same(found, exact_search(vectors[:3], vectors[:20], 60))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"where": np.ones(9)}, TypeError, "where: expected booleans"),
        ({"where": np.ones((3, 3), bool)}, TypeError, "where: expected booleans"),
        ({"where": np.ones(10, bool)}, ValueError, "where: expected at most 9"),
        ({"exclude": [0, 1]}, ValueError, r"exclude: expected shape \(3,\)"),
        ({"exclude": 0}, ValueError, r"exclude: expected shape \(3,\)"),
        ({"exclude": [0, 1, 9]}, ValueError, "exclude: expected -1 to 8"),
        ({"exclude": [0, -2, 1]}, ValueError, "exclude: expected -1 to 8"),
        ({"exclude": [0.0, 1, 2]}, TypeError, "exclude: expected integers"),
    ],
)
def test_what_does_not_fit(arguments, error, message):
    memory = pyhue.VectorMemory(4)
    memory.add(np.eye(9, 4) + 1)
    with pytest.raises(error, match=message):
        memory.search(np.ones((3, 4)), 2, **arguments)
