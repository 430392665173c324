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
