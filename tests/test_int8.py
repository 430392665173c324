"""Blocks of int8 on data made to break them; the families of `test_certificate.py` go through them too."""

import numpy as np
import pytest
from reference import assert_exact, assert_neighbors
from test_certificate import assert_certified

import pyhue
from pyhue._search.index import Index
from pyhue._search.plan import Plan, in_bytes, plain, principal, principal_directions
from pyhue._search.stored import Stored

N, QUERIES = 200, 8


def _one_huge_dimension(rng, dim):
    vectors = rng.standard_normal((N + QUERIES, dim))
    vectors[:, dim // 2] *= 1e6
    return vectors


def _between_steps(rng, dim):
    """Every value in the middle between two steps: all rounding errors are the largest there are."""
    vectors = rng.integers(-127, 127, (N + QUERIES, dim)) + 0.5
    vectors[0], vectors[1] = 127, -127
    return vectors


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


def _plans(vectors, dim):
    center = vectors.mean(axis=0, dtype=np.float64)
    directions = principal_directions(vectors, center)
    few = vectors[: N // 10]  # a sample that has not seen everything
    lengths = sorted({(dim, dim), (max(1, dim // 2), dim), (max(1, dim // 3), max(1, dim // 2))})
    plans = [plain(center), plain(np.zeros(dim)), *(principal(center, directions, *pair) for pair in lengths)]
    return [in_bytes(plan, sample) for plan in plans for sample in (vectors, few)]


@pytest.mark.parametrize("dim", [1, 3, 4, 5, 33, 130])
@pytest.mark.parametrize("made", BREAKING)
def test_certificate(made, dim):
    data = made(np.random.default_rng(dim), dim).astype(np.float32)
    vectors, queries = data[:N], np.concatenate((data[N:], data[:3]))
    assert_certified(vectors, queries, _plans(vectors, dim))


@pytest.mark.parametrize("dim", [5, 70])
@pytest.mark.parametrize("made", BREAKING)
def test_search(isa, threads, made, dim):
    """The same bits as the contract, at every level."""
    data = made(np.random.default_rng(dim), dim).astype(np.float32)
    vectors, queries = data[:N], data[N:]
    for plan in _plans(vectors, dim):
        stored = Stored(vectors)
        found = pyhue.SearchResult(*Index(stored, plan).search(stored, queries, 7))
        assert_exact(found, queries, vectors)
        assert_neighbors(*found, queries, vectors)


def test_the_filter_drops_nearly_all_of_ordinary_data(isa):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 256)).astype(np.float32) for n in (2000, 7))
    stored = Stored(vectors)
    index = Index(stored, in_bytes(plain(np.zeros(256)), vectors))
    distances = np.sort(((queries[:, None] - vectors) ** 2).sum(axis=2), axis=1)[:, 9]
    stages, dims = index.audit(stored, queries, distances)
    assert dims == 256
    assert (stages > 0).mean() < 0.03


def test_a_query_of_zeros_drops_what_is_far(isa):
    vectors = np.random.default_rng(0).standard_normal((640, 16)).astype(np.float32)
    stored = Stored(vectors)
    index = Index(stored, in_bytes(plain(np.zeros(16)), vectors))
    near = np.sort((vectors**2).sum(axis=1))[9]
    stages, _ = index.audit(stored, np.zeros((1, 16), np.float32), np.array([near]))
    assert (stages > 0).mean() < 0.1


def test_a_coordinate_costs_a_byte():
    vectors = np.random.default_rng(0).random((640, 256), np.float32)
    center = np.zeros(256)
    sizes = [
        Index(Stored(vectors), plan).nbytes for plan in (plain(center), in_bytes(plain(center), vectors))
    ]
    assert sizes[0] - sizes[1] == vectors.size


@pytest.mark.parametrize(
    "steps", [np.zeros(4), -np.ones(4), np.full(4, np.nan), np.full(4, np.inf), np.ones(3)]
)
def test_steps_that_are_none(steps):
    vectors = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"^steps: expected"):
        Index(Stored(vectors), Plan("plain", np.zeros(4), None, 4, steps=steps))
