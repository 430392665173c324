"""A rotation that is not quite orthonormal still gives exact results: the bound knows how far off it is."""

import dataclasses

import numpy as np
import pytest

from pyhue._search.index import Index
from pyhue._search.plan import Plan, principal, principal_directions
from pyhue._search.stored import Stored

K, DIM = 5, 72


@dataclasses.dataclass(frozen=True)
class Trusting(Plan):
    """Believes that its rotation is orthonormal."""

    orthogonality_error = 0.0


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


def test_the_error_is_needed():
    def trusting(*at):
        return Trusting(*(getattr(principal(*at), field.name) for field in dataclasses.fields(Plan)))

    assert sum(_dropped_neighbors(trusting, seed) for seed in range(20)) > 0


@dataclasses.dataclass(frozen=True)
class Stretched(Plan):
    """The first coordinate is 1.05 times what it was, and the error is just that, not an estimate of it."""

    orthogonality_error = 1.05**2 - 1


@pytest.mark.parametrize("tail", [0, 32])
def test_the_error_counts_in_dot_products_and_in_tails(isa, tail):
    """Opposite first coordinates seem farther than they are; what follows them seems to be nothing."""
    rotation = np.eye(128)
    rotation[0, 0] = 1.05
    plan = Stretched("stretched", np.zeros(128), rotation, (64, 128), 128, (), np.ones(128))
    vectors, queries = np.zeros((64, 128), np.float32), np.zeros((1, 128), np.float32)
    vectors[:, 0], queries[:, 0] = 100, -100  # 105 steps: nothing is rounded
    vectors[:, 127] = queries[:, 127] = tail  # a square of 1,024, where the stretched one is 1,025 too large
    distances = np.array([200**2], np.float32)
    read, _ = Index(Stored(vectors), plan).audit(Stored(vectors), queries, distances)
    assert (read == 0).all()
