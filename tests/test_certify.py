"""`certify` proves what is right, and does not prove what is wrong: each kind of damage makes it fail."""

from dataclasses import replace

import numpy as np
import pytest
from families import FAMILIES, draw
from plans import random_clusters, rotated
from reference import distances64

import pyhue
from pyhue._search.certificate import certificate
from pyhue._search.index import Index
from pyhue._search.packed import ARRAYS
from pyhue._search.plan import plain, principal_directions
from pyhue._search.stored import Stored

N, DIM = 700, 130


def memory_of(vectors, normalize=False, dtype="float32"):
    memory = pyhue.VectorMemory(vectors.shape[1], normalize=normalize, dtype=dtype)
    memory.add(vectors)
    return memory


def packed(vectors, queries, k=5, damage=None, sample=10_000, plan=None, clusters=None):
    """The certificate of a piece whose arrays `damage(arrays)` changed."""
    stored = Stored(vectors)
    index = Index(stored, plan or plain(vectors.mean(axis=0, dtype=np.float64), vectors), clusters)
    if damage:
        damage(dict(zip(ARRAYS, index.pieces[0].arrays, strict=True)))
    return certificate(index, stored, queries, k, sample)


def real_like(seed=0, n=N):
    return draw("relu85", n, DIM, seed=seed)


def test_what_it_says(isa):
    vectors, queries = real_like(), real_like(1, 20)
    found = packed(vectors, queries)
    exact = np.array([distances64(query, vectors) for query in queries])
    kth = np.sort(exact, axis=1)[:, 4]
    assert found.valid.all()
    np.testing.assert_allclose(found.distances, kth, rtol=1e-5)
    assert (found.lower_bounds > found.distances).all()
    assert (found.dropped + found.compared == N).all()
    assert (found.dropped > 0).any()
    assert (found.margins >= -1e-5 * kth).all()
    for i in range(len(queries)):  # no more can be dropped than is farther
        assert found.dropped[i] <= np.count_nonzero(exact[i] > kth[i] * (1 - 1e-6))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_proved(family):
    vectors, queries = draw(family, 200, 67), draw(family, 7, 67, seed=1)
    center = vectors.mean(axis=0, dtype=np.float64)
    for plan in rotated(center, principal_directions(vectors, center), vectors):
        assert packed(vectors, queries, plan=plan, clusters=random_clusters(vectors)).valid.all()


def far_to_near(arrays):
    """Everything seems far: half of the squared norms is large."""
    arrays["bounds"][:, 0] += 1e3


def no_error(arrays):
    """Bytes of other vectors, as if nothing had been rounded."""
    arrays["blocks"][:] = 128
    arrays["bounds"][:, 1:] = 0


@pytest.mark.parametrize("damage", [far_to_near, no_error])
def test_damage_is_not_proved(damage):
    found = packed(real_like(), real_like(1, 20), damage=damage)
    assert not found.valid.any()
    assert (found.margins < 0).all()


def test_a_plan_that_lies_is_not_proved():
    """A rotation that is none, believed to stretch nothing: bounds are wrong, and a sample of them tells."""
    vectors, queries = real_like(), real_like(1, 20)
    directions = 2 * principal_directions(vectors, np.zeros(DIM))
    (plan, *_) = rotated(np.zeros(DIM), directions, vectors)
    assert packed(vectors, queries, plan=plan).valid.all()
    assert not packed(vectors, queries, plan=replace(plan, stretch=1.0)).valid.all()


def test_a_neighbor_that_was_not_found_is_seen(monkeypatch):
    """A search that leaves the nearest out, though nothing dropped it."""
    vectors, queries = real_like(), real_like(1, 5)
    whole = Index.search

    def forgetful(self, stored, queries, k, *more):
        distances, indices = whole(self, stored, queries, k + 1, *more)
        return distances[:, 1:], indices[:, 1:]

    assert packed(vectors, queries).valid.all()
    monkeypatch.setattr(Index, "search", forgetful)
    assert not packed(vectors, queries, sample=1).valid.any()


def test_of_a_memory():
    vectors = np.concatenate([real_like(), np.zeros((3, DIM), np.float32)])
    memory = memory_of(vectors, normalize=True)
    memory.optimize()
    memory.remove([5, 6])
    memory.add(real_like(3, 50))
    queries = np.concatenate([vectors[5:8], np.zeros((1, DIM), np.float32)])
    found = memory.certify(queries, k=4)
    assert found.valid.all()
    np.testing.assert_array_equal(found.distances, memory.search(queries, 4).distances[:, -1])
    assert found.dropped[3] == found.compared[3] == 0
    assert found.lower_bounds[3] == np.inf
    assert (found.dropped + found.compared)[:3].tolist() == [N - 2 + 50] * 3
    assert memory.certify(queries[:0]).valid.shape == (0,)


def test_of_pixels():
    memory = pyhue.PixelMemory(DIM)
    memory.add(real_like().reshape(70, 10, DIM), np.arange(70) % 7)
    found = memory.certify(real_like(1, 20).reshape(2, 10, DIM))
    assert found.valid.shape == (20,)
    assert found.valid.all()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"k": 0}, ValueError, "k"),
        ({"k": 1.5}, TypeError, "k"),
        ({"sample": 0}, ValueError, "sample"),
        ({"sample": "all"}, TypeError, "sample"),
        ({"queries": np.zeros((2, 3), np.float32)}, ValueError, "queries"),
        ({"queries": np.full((2, DIM), np.nan, np.float32)}, ValueError, "queries"),
    ],
)
def test_errors(arguments, error, named):
    memory = memory_of(real_like())
    with pytest.raises(error, match=named):
        memory.certify(**({"queries": real_like(1, 2)} | arguments))


def test_an_empty_memory():
    with pytest.raises(ValueError, match="memory"):
        pyhue.VectorMemory(3).certify(np.zeros((1, 3), np.float32))


def test_explain_tells_the_last_search():
    memory = memory_of(real_like())
    memory.optimize()
    memory.search(real_like(1, 21), k=3)
    last = memory.explain()["last_search"]
    assert last["queries"] == 21
    assert 0 < last["dims_read"] <= 1
    assert 3 / N <= last["compared"] <= last["survivors"] <= 1
    memory.search(real_like(1, 2), k=3)
    assert memory.explain()["last_search"]["queries"] == 2
