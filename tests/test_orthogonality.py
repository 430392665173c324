"""A rotation that is not quite orthonormal still gives exact results: what it stretches is taken back."""

from dataclasses import replace

import numpy as np
import pytest

from pyhue._search.index import Index
from pyhue._search.plan import Plan, principal, principal_directions, stretch_of
from pyhue._search.stored import Stored

K, DIM = 5, 72


def _dropped_neighbors(plan_of, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((400, DIM)).astype(np.float32)
    queries = rng.standard_normal((20, DIM)).astype(np.float32)
    distances = ((queries[:, None].astype(np.float64) - vectors) ** 2).sum(axis=2)
    kth = np.sort(distances, axis=1)[:, K - 1]
    center = np.zeros(DIM)
    rotation = principal_directions(vectors, center) + 0.05 * rng.standard_normal((DIM, DIM))
    read, _ = Index(Stored(vectors), plan_of(center, rotation, vectors)).audit(
        Stored(vectors), queries, (kth * (1 + 1e-6)).astype(np.float32)
    )
    return np.count_nonzero((distances <= kth[:, None]) & (read > 0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stages", [(), (64, 0), (64, 64)])
def test_no_neighbor_is_dropped(isa, stages, seed):
    assert _dropped_neighbors(lambda *at: principal(*at, *stages), seed) == 0


def test_the_stretch_is_needed():
    def trusting(*at):
        return replace(principal(*at), stretch=1.0)

    assert sum(_dropped_neighbors(trusting, seed) for seed in range(20)) > 0


def test_what_is_stretched_seems_farther(isa):
    """Opposite first coordinates, of 105 steps instead of 100."""
    rotation = np.eye(128)
    rotation[0, 0] = 1.05
    exact = stretch_of(np.zeros(128), rotation)
    vectors, queries = np.zeros((64, 128), np.float32), np.zeros((1, 128), np.float32)
    vectors[:, 0], queries[:, 0] = 100, -100
    for stretch, kept in ((exact, True), (1.0, False)):
        plan = Plan("stretched", np.zeros(128), rotation, (64, 128), 128, (), np.ones(128), stretch)
        read, _ = Index(Stored(vectors), plan).audit(Stored(vectors), queries, np.array([200**2], np.float32))
        assert (read == 0).all() == kept


def test_what_rounding_takes_from_a_vector_counts(isa):
    """127 values below half of what 16 bits resolve, where a query is large and nothing is stored."""
    vectors, queries = np.full((64, 128), 0.0015, np.float32), np.full((1, 128), 8, np.float32)
    vectors[:, 0] = queries[:, 0] = 100
    plan = Plan("first", np.zeros(128), np.eye(1, 128), (1,), 1, (), np.ones(1))
    distance = ((queries[0].astype(np.float64) - vectors[0]) ** 2).sum()
    read, _ = Index(Stored(vectors), plan).audit(
        Stored(vectors), queries, np.array([distance * (1 + 1e-6)], np.float32)
    )
    assert (read == 0).all()
