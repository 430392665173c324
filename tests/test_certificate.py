"""The certificate: no filter drops a vector that is among the k nearest, rounding included.

The thresholds given are the k-th distances themselves, the tightest that a search ever reaches. A vector may
be dropped only if its distance, as the contract computes it and in float64 too, is above. Besides the
families of `families.py` there are data made for single terms of the bound.
"""

import itertools

import numpy as np
import pytest
from families import FAMILIES, draw
from hypothesis import given
from hypothesis import strategies as st
from plans import all_plans, random_clusters
from reference import distances32, distances64, running_at

from pyhue import _core
from pyhue._search.index import Index
from pyhue._search.plan import plain, principal
from pyhue._search.stored import Stored

LEVELS = _core.available_isas()
DIMS = (1, 2, 3, 31, 33, 64, 65, 130)


def assert_certified(vectors, queries, plans, clusters=(None,), ks=(1, 10), levels=LEVELS):
    """Returns how many pairs the filters dropped."""
    contract = np.array([distances32(query, vectors) for query in queries])
    exact = np.array([distances64(query, vectors) for query in queries])
    kths = [np.partition(contract, min(k, len(vectors)) - 1)[:, min(k, len(vectors)) - 1] for k in ks]
    stored = Stored(vectors)
    # Of coordinates in float64, and of bounds that are written as float32.
    squares = [np.square(part, dtype=np.float64).sum(axis=1) for part in (queries, vectors)]
    rounding = 1e-9 * np.add.outer(*squares) + 1e-37
    dropped_in_all = 0
    for plan, clustered in itertools.product(plans, clusters):
        index = Index(stored, plan, clustered)
        for level, kth in itertools.product(levels, kths):
            with running_at(level, 1):
                read, bounds = index.audit(stored, queries, kth)
            dropped = read > 0
            assert not (bounds > exact + rounding).any()
            near = dropped & ((contract <= kth[:, None]) | (exact <= kth[:, None]))
            assert not near.any(), (
                f"{level}, {plan.name}, blocks {plan.block_ends}, rows {plan.row_begin} {plan.row_ends}: "
                f"dropped (query, vector, coordinates) "
                f"{[(*map(int, pair), int(read[tuple(pair)])) for pair in np.argwhere(near)[:5]]}"
            )
            dropped_in_all += int(dropped.sum())
    return dropped_in_all


def _case(family, n, dim, nq=6):
    vectors = draw(family, n, dim)
    return vectors, np.concatenate([draw(family, nq, dim, seed=1), vectors[:: max(1, n // 8)][:8]])


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, dim):
    vectors, queries = _case(family, 130, dim)
    assert_certified(vectors, queries, all_plans(vectors), (None, random_clusters(vectors)))


@pytest.mark.parametrize("dim", [256, 1280, 4096])
def test_rounding_of_long_sums(dim):
    """Numbers of few bits, so that distances differ by little more than long sums in float32 round."""
    vectors, queries = _case("bfloat16", 400, dim)
    zero, identity = np.zeros(dim), np.eye(dim)
    plans = [
        plain(zero, vectors),
        principal(zero, identity, vectors),
        principal(zero, identity, vectors, 128, 64),
    ]
    assert_certified(vectors, queries, plans)


def _steps(dim, fraction):
    """A vector of ones and the same, longer by up to a fraction of 2^-7; signs alternate."""
    signs = np.where(np.arange(dim) % 3 == 0, -1, 1)
    exact = np.tile(signs, (70, 1)).astype(np.float32)
    return exact, (exact * np.linspace(1, 1 + fraction * 2**-7, 70)[:, None]).astype(np.float32)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("fraction", [0.49, -0.24])
def test_rounding_errors_along_the_other_vector(dim, fraction):
    """All values of a vector are rounded the same way, towards or away from the other one."""
    exact, between = _steps(dim, fraction)
    for vectors, queries in ((between, exact), (exact, between), (between, between)):
        for sign in (1, -1):  # nearest or farthest: the bound errs in the other direction
            assert_certified(vectors, sign * queries[-9:], all_plans(vectors), ks=(1, 35, 70))


@pytest.mark.parametrize("scale", [1e-17, 1e-18, 1e-19, 1e-20, 1e-22, 1e-30])
@pytest.mark.parametrize("dim", [1, 33, 130])
def test_products_that_underflow(dim, scale):
    """Of float32: norms and terms of the bound, whose products are below its smallest numbers."""
    rng = np.random.default_rng(0)
    vectors = (scale * rng.uniform(0.5, 1.5, (130, dim))).astype(np.float32)
    queries = np.concatenate([vectors[:6], (1e-38 / scale * rng.random((3, dim))).astype(np.float32)])
    assert_certified(vectors, queries, all_plans(vectors), ks=(1, 2, 10))


def test_all_distances_and_k():
    """Each vector's own distance as the threshold: none as near may be dropped."""
    for family in ("normal", "relu85", "translated 1e7", "one ulp", "20 orders by channel"):
        vectors, queries = _case(family, 100, 33, nq=2)
        assert_certified(vectors, queries, all_plans(vectors), ks=range(1, 101, 9))


def test_infinite_thresholds_drop_nothing():
    vectors, queries = _case("normal", 100, 40)
    stored = Stored(vectors)
    for plan in all_plans(vectors):
        for level in LEVELS:
            with running_at(level, 1):
                read, _ = Index(stored, plan).audit(
                    stored, queries, np.full(len(queries), np.inf, np.float32)
                )
            assert (read == 0).all()


def test_vectors_of_infinite_norm_are_kept():
    """Beyond what float32 products hold, vectors and queries bypass the filters."""
    vectors = draw("normal", 200, 20)
    vectors[::7] *= np.float32(1e19)
    queries = np.concatenate([vectors[:10], np.zeros((1, 20), np.float32)])
    stored = Stored(vectors)
    for level in LEVELS:
        with running_at(level, 1):
            plan = plain(np.zeros(20), draw("normal", 200, 20))
            read, _ = Index(stored, plan).audit(stored, queries, np.ones(11, np.float32))
        assert (read[:, ::7] == 0).all()
        assert (read[[0, 7]] == 0).all()
        assert (read[1:7] > 0).any()


def test_bounds_that_are_no_numbers_drop_nothing(isa):
    """Of a query of zeros and vectors of infinite norm, where an audit would not see it: 0 times infinity."""
    vectors = draw("normal", 70, 20) * np.float32(1e19)
    stored, plan = Stored(vectors), plain(np.zeros(20), draw("normal", 200, 20))
    _, found = Index(stored, plan).search(stored, np.zeros((1, 20), np.float32), 70)
    assert sorted(found[0]) == list(range(70))


@pytest.mark.parametrize("family", ["normal", "relu85", "rank 1", "duplicated", "translated 1e3"])
def test_the_filters_do_drop(family):
    """A bound that keeps everything would pass all the rest."""
    vectors, queries = _case(family, 130, 64)
    pairs = len(vectors) * len(queries)
    for plan in [all_plans(vectors)[i] for i in (0, 3, 4)]:
        assert assert_certified(vectors, queries, [plan], ks=(1,), levels=LEVELS[:1]) > 0.3 * pairs


@given(
    families=st.lists(st.sampled_from(list(FAMILIES)), min_size=1, max_size=3),
    dim=st.integers(1, 140),
    n=st.integers(1, 150),
    k=st.integers(1, 40),
    scale=st.integers(-60, 40),
    offset=st.sampled_from([0, 1e-3, 1, 1e3, 1e7, 1e15]),
    level=st.sampled_from(LEVELS),
    clustered=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_mixed_families(families, dim, n, k, scale, offset, level, clustered, seed):
    parts = [draw(family, n, dim, seed).astype(np.float64) * 2.0**scale + offset for family in families]
    vectors = np.clip(np.concatenate(parts), -3e38, 3e38).astype(np.float32)
    queries = np.concatenate([vectors[::n], -vectors[:1], *(draw(f, 2, dim, seed + 1) for f in families)])
    clusters = (random_clusters(vectors, seed=seed),) if clustered else (None,)
    assert_certified(vectors, queries, all_plans(vectors), clusters, (k,), (level,))
