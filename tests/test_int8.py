"""Blocks of int8 on data made to break them; the families of `test_certificate.py` go through them too."""

from dataclasses import replace

import numpy as np
import pytest
from plans import all_plans
from reference import assert_exact, assert_neighbors
from test_certificate import assert_certified

import pyhue
from pyhue._search.index import Index
from pyhue._search.optimize import _candidates
from pyhue._search.plan import mean, plain, principal
from pyhue._search.stored import Stored

N, QUERIES = 200, 8


def _one_huge_dimension(rng, dim):
    vectors = rng.standard_normal((N + QUERIES, dim))
    vectors[:, dim // 2] *= 1e6
    return vectors


def _between_steps(rng, dim):
    """With steps of 1 about zero every value is in the middle between two, or half a step beyond the last.

    All rounding errors are the largest there are.
    """
    return rng.integers(-128, 128, (N + QUERIES, dim)) + 0.5


def _beyond_the_steps(rng, dim):
    """A few vectors far outside what the sample showed."""
    vectors = rng.standard_normal((N + QUERIES, dim))
    vectors[::7] *= 300
    return vectors


def _tiny_tails(rng, dim):
    return rng.standard_normal((N + QUERIES, dim)) * 10.0 ** -np.linspace(0, 12, dim)


def _twenty_orders(rng, dim):
    return rng.standard_normal((N + QUERIES, dim)) * 10.0 ** np.linspace(-10, 10, N + QUERIES)[:, None]


def _all_equal(rng, dim):
    return np.full((N + QUERIES, dim), rng.random())


def _zeros(rng, dim):
    return np.zeros((N + QUERIES, dim))


def _steps_exact(rng, dim):
    """Whole numbers: nothing is rounded, and neighbours tie."""
    return rng.integers(-3, 4, (N + QUERIES, dim)).astype(float)


def test_values_between_steps_are_off_by_half_of_one():
    """Of the plan that `_between_steps` is made for; else it would break nothing."""
    vectors = _between_steps(np.random.default_rng(0), 4)[:N].astype(np.float32)
    assert {-127.5, 127.5} <= set(vectors.ravel())
    plan = next(p for p in all_plans(vectors) if not p.center.any() and (p.steps == 1).all())
    bounds = Index(Stored(vectors), plan).pieces[0].arrays[2]
    _half_norm, _norm, errors, _tail = bounds[0]
    np.testing.assert_allclose(errors, 1, rtol=1e-6)  # the root of four quarters


BREAKING = [
    _one_huge_dimension,
    _between_steps,
    _beyond_the_steps,
    _tiny_tails,
    _twenty_orders,
    _all_equal,
    _zeros,
    _steps_exact,
]


@pytest.mark.parametrize("dim", [1, 3, 4, 5, 33, 130])
@pytest.mark.parametrize("made", BREAKING)
def test_certificate(made, dim):
    data = made(np.random.default_rng(dim), dim).astype(np.float32)
    vectors, queries = data[:N], np.concatenate((data[N:], data[:3]))
    assert_certified(vectors, queries, all_plans(vectors))


@pytest.mark.parametrize("dim", [5, 70])
@pytest.mark.parametrize("made", BREAKING)
def test_search(isa, threads, made, dim):
    """The same bits as the contract, at every level."""
    data = made(np.random.default_rng(dim), dim).astype(np.float32)
    vectors, queries = data[:N], data[N:]
    for plan in all_plans(vectors):
        stored = Stored(vectors)
        found = pyhue.SearchResult(*Index(stored, plan).search(stored, queries, 7))
        assert_exact(found, queries, vectors)
        assert_neighbors(*found, queries, vectors)


def _kept(vectors, queries, plan, k=10):
    """Share of pairs that no stage drops, with the true k-th distances."""
    stored = Stored(vectors)
    distances = np.sort(((queries[:, None] - vectors) ** 2).sum(axis=2), axis=1)[:, k - 1]
    read, _ = Index(stored, plan).audit(stored, queries, distances)
    return (read == 0).mean()


def test_the_filter_drops_nearly_all_of_ordinary_data(isa):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 256)).astype(np.float32) for n in (2000, 7))
    assert _kept(vectors, queries, plain(np.zeros(256), vectors)) < 0.03


def test_a_query_of_zeros_drops_what_is_far(isa):
    vectors = np.random.default_rng(0).standard_normal((640, 16)).astype(np.float32)
    assert _kept(vectors, np.zeros((1, 16), np.float32), plain(np.zeros(16), vectors)) < 0.1


def test_weights_drop_more(isa, monkeypatch):
    """Where the spread of coordinates falls, the query's rounding counts where the vectors are small."""
    rng = np.random.default_rng(0)
    spread = 10.0 ** -np.linspace(0, 2, 256)
    vectors, queries = ((rng.standard_normal((n, 256)) * spread).astype(np.float32) for n in (2000, 7))
    plan = plain(np.zeros(256), vectors)
    even = replace(plan, steps=np.full(256, plan.steps.max()))
    assert _kept(vectors, queries, plan) < 0.9 * _kept(vectors, queries, even)


@pytest.mark.parametrize("dim", [256, 1280])
def test_a_coordinate_costs_little_more_than_a_byte(dim):
    vectors = np.random.default_rng(0).random((640, dim), np.float32)
    center = mean(Stored(vectors))
    directions = np.eye(dim)
    plans = [plain(center, vectors), principal(center, directions, vectors)]
    if dim == 1280:
        plans += [principal(center, directions, vectors, *pair) for pair in ((512, 256), (768, 512))]
    for plan in plans:
        index = Index(Stored(vectors), plan)
        assert index.nbytes - 8 * len(vectors) <= 1.3 * vectors.size  # but for the order


@pytest.mark.parametrize("dim", range(64, 1281, 64))
def test_what_optimize_packs_costs_at_most_1_3_bytes_a_coordinate(dim):
    """All bytes of a vector; of 64 channels, 24 bytes for order and bounds are more."""
    vectors = np.random.default_rng(0).random((640, dim), np.float32)
    plans = list(_candidates(mean(Stored(vectors)), np.eye(dim), vectors))
    assert [plan.name for plan in plans] == ["plain", "principal"]
    for plan in plans:
        each = Index(Stored(vectors), plan).nbytes / len(vectors)
        assert each <= (1.3 * dim if dim > 64 else dim + 24)
        assert each <= 1.2 * dim or dim < 1024


@pytest.mark.parametrize(
    "steps", [np.zeros(4), -np.ones(4), np.full(4, np.nan), np.full(4, np.inf), np.ones(3)]
)
def test_steps_that_are_none(steps):
    vectors = np.ones((3, 4), np.float32)
    plan = replace(plain(np.zeros(4), vectors), steps=steps)
    with pytest.raises(ValueError, match=r"^steps: expected"):
        Index(Stored(vectors), plan)
