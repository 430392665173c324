"""`certify` proves what is right, and does not prove what is wrong: each kind of damage makes it fail."""

from dataclasses import replace

import numpy as np
import pytest
from families import FAMILIES, draw
from plans import random_clusters, rotated
from reference import distances64

import pyhue
from pyhue import _core
from pyhue._search.certificate import certificate
from pyhue._search.index import Index
from pyhue._search.packed import ARRAYS
from pyhue._search.plan import plain, principal, principal_directions
from pyhue._search.selection import EVERYTHING
from pyhue._search.stored import Stored
from pyhue._search.visit import Visit

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


def repeated(distances, rows):
    """The nearest alone, k times."""
    return np.broadcast_to(distances[:, :1], rows.shape), np.broadcast_to(rows[:, :1], rows.shape)


def halved(distances, rows):
    return distances / 2, rows


def of_other_rows(distances, rows):
    return distances / 2, rows + 1


def backwards(distances, rows):
    """The k-th would be the nearest, and drop all others."""
    return distances[:, ::-1], rows[:, ::-1]


def one_missing(distances, rows):
    distances[:, -1], rows[:, -1] = np.inf, -1
    return distances, rows


@pytest.mark.parametrize("wrong", [repeated, halved, of_other_rows, backwards, one_missing])
def test_a_wrong_answer_is_not_proved(monkeypatch, wrong):
    vectors, queries = real_like(), real_like(1, 5)
    whole = Index.search
    monkeypatch.setattr(Index, "search", lambda *asked: wrong(*whole(*asked)))
    assert not packed(vectors, queries).valid.any()


def test_a_removed_neighbor_is_not_proved(monkeypatch):
    vectors, queries = real_like(), real_like(1, 5)
    stored, whole = Stored(vectors), Index.search
    index = Index(stored, plain(vectors.mean(axis=0, dtype=np.float64), vectors))
    nearest = index.search(stored, queries, 1)[1].ravel()
    left = stored.without(np.unique(nearest))[0]
    assert certificate(index, left, queries, 5, 100).valid.all()
    monkeypatch.setattr(Index, "search", lambda self, _, *asked: whole(self, stored, *asked))
    assert not certificate(index, left, queries, 5, 100).valid.any()


def test_more_than_there_are_is_not_proved(monkeypatch):
    """Two of five rows can be found; a third is claimed."""
    vectors, queries = real_like(n=5), real_like(1, 3)
    stored, whole = Stored(vectors).without(np.arange(3))[0], Index.search
    index = Index(stored, plain(np.zeros(DIM), vectors))
    assert certificate(index, stored, queries, 5, 100).valid.all()

    def inventive(*asked):
        distances, rows = whole(*asked)
        rows[:, 2] = 0
        return distances, rows

    monkeypatch.setattr(Index, "search", inventive)
    assert not certificate(index, stored, queries, 5, 100).valid.any()


def test_fewer_than_asked_for():
    memory = memory_of(real_like(n=20))
    found = memory.certify(real_like(1, 3), k=21)
    assert found.valid.all()
    assert (found.distances == np.inf).all()
    assert (found.compared == 20).all()
    assert (memory.certify(real_like(1, 3), k=20).distances < np.inf).all()


@pytest.mark.parametrize(
    ("vectors", "query"),
    [(np.ones((100, 16)), np.full(16, 2e18)), (np.resize([1e19, -1e19], (100, 15)), np.zeros(15))],
)
def test_bounds_that_are_no_numbers_claim_nothing(isa, vectors, query):
    """0 times infinity."""
    found = memory_of(vectors.astype(np.float32)).certify(query.astype(np.float32)[None], k=3)
    assert found.valid.all()


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


def assert_shares(memory, most=1.0):
    last = memory.explain()["last_search"]
    assert 0 < last["dims_read"] <= 1
    assert 0 < last["compared"] <= last["survivors"] <= most


def test_shares_of_what_no_filter_met():
    """Few rows that are left, compared one by one; rows that were added, the filters among others."""
    vectors = real_like(n=3000)
    memory = memory_of(vectors[:2900])
    memory.search(real_like(1, 5), k=3)
    assert_shares(memory, most=0.9)
    memory.search(real_like(1, 5), k=3, where=np.arange(2900) < 40)
    assert_shares(memory)
    memory.add(vectors[2900:])
    memory.search(real_like(1, 5), k=3000)
    assert_shares(memory)


def test_shares_of_the_nearest_clusters():
    """Their vectors are compared before the pass, and again in it."""
    vectors, queries = real_like(), real_like(1, 5)
    stored, directions = Stored(vectors), principal_directions(vectors, np.zeros(DIM))
    plan = rotated(np.zeros(DIM), directions, vectors)[0]
    clusters = random_clusters(vectors)
    work = Index(stored, plan, clusters).counted_search(stored, queries, N)[2]
    assert work.pairs > N * len(queries)
    assert work.compared <= work.survivors <= work.pairs
    assert work.coordinates <= work.pairs * DIM


def test_shares_of_visited_clusters():
    """Of a search with a recall, which compares what is in no cluster: here most."""
    vectors, queries = real_like(), real_like(1, 5)
    plan = rotated(np.zeros(DIM), principal_directions(vectors, np.zeros(DIM)), vectors)[0]
    index = Index(Stored(vectors[:64]), plan, random_clusters(vectors[:64]))
    visit = Visit(index, Stored(vectors), queries, EVERYTHING)
    visit.far(N, np.full(5, np.inf), np.full(5, np.inf, np.float32))
    work = visit.work
    assert work.compared == N * len(queries)
    assert work.compared <= work.survivors <= work.pairs
    assert work.coordinates <= work.pairs * DIM


def test_dims_read_counts_every_lane(isa):
    """The first sixteen lanes are near, the others end at the first stage: a level may test them alone."""
    dim, stage = 4 * _core.stage_dims, _core.stage_dims
    vectors = np.zeros((_core.block, dim), np.float32)
    vectors[:, stage:] = np.random.default_rng(0).standard_normal((_core.block, dim - stage))
    vectors[16:, :stage] = 100
    queries = np.zeros((7, dim), np.float32)
    stored, plan = Stored(vectors), principal(np.zeros(dim), np.eye(dim), vectors)
    assert plan.block_ends[0] == stage
    index = Index(stored, plan)
    limits = np.sort(np.array([distances64(query, vectors) for query in queries]), axis=1)[:, 15]
    agreed = (1.01 * limits).astype(np.float32)
    work = index.counted_search(stored, queries, 16, agreed=lambda near: agreed)[2]
    assert work.pairs == 7 * _core.block
    assert work.coordinates >= 7 * (16 * dim + 48 * stage)
