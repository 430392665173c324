"""A rotation that is not quite orthonormal still gives exact results: the bound knows how far off it is."""

import dataclasses

import numpy as np
import pytest

from pyhue._search.index import Index
from pyhue._search.plan import Plan, principal, principal_directions
from pyhue._search.stored import Stored

K = 5


@dataclasses.dataclass(frozen=True)
class Trusting(Plan):
    """Believes that its rotation is orthonormal."""

    orthogonality_error = 0.0


def _dropped_neighbors(plan_of, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((400, 24)).astype(np.float32)
    queries = rng.standard_normal((20, 24)).astype(np.float32)
    distances = ((queries[:, None].astype(np.float64) - vectors) ** 2).sum(axis=2)
    kth = np.sort(distances, axis=1)[:, K - 1]
    center = np.zeros(24)
    rotation = principal_directions(vectors, center) + 0.05 * rng.standard_normal((24, 24))
    stages, _ = Index(Stored(vectors), plan_of(center, rotation)).audit(
        Stored(vectors), queries, (kth * (1 + 1e-6)).astype(np.float32)
    )
    return np.count_nonzero((distances <= kth[:, None]) & (stages < 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("block_dims", "dims"), [(4, 12), (12, 24)])
def test_no_neighbor_is_dropped(isa, block_dims, dims, seed):
    assert _dropped_neighbors(lambda *at: principal(*at, block_dims, dims), seed) == 0


def test_the_error_is_needed():
    def trusting(center, rotation):
        return Trusting("principal", center, rotation, 12, 12)

    assert sum(_dropped_neighbors(trusting, seed) for seed in range(20)) > 0
