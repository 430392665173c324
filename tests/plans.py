"""Every kind of plan for given vectors, also ones that nobody would choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyhue._search.clusters import Clusters
from pyhue._search.plan import Plan, in_bytes, mean, plain, principal, principal_directions, sparse
from pyhue._search.stored import Stored

OMIT = (0.0, 0.1, 0.5, 1.0)


def all_plans(vectors: NDArray[np.float32]) -> list[Plan]:
    """Plain, sparse and principal plans; rotations about the mean and about zero, exact or not."""
    dim = vectors.shape[1]
    center = mean(Stored(vectors))
    plans = [plain(center), plain(np.zeros(dim)), *(sparse(dim, omit) for omit in OMIT)]
    plans += [replace(plain(center), omit=0.5)]
    directions = principal_directions(vectors, center)
    lengths = {
        (max(1, dim * a // 4), max(1, dim * b // 4)) for a, b in ((1, 2), (1, 4), (2, 3), (3, 4), (4, 4))
    }
    rotated = [principal(center, directions, *pair) for pair in sorted(lengths | {(1, dim)})]
    plans += [*rotated, replace(rotated[-1], center=np.zeros(dim)), replace(rotated[0], omit=0.3)]
    for factor in (0.98, 1.02):
        plans += [
            principal(np.zeros(dim), directions * factor, *pair) for pair in ((dim, dim), rotated_pair(dim))
        ]
    return plans + [in_bytes(plan, vectors) for plan in plans if plan.omit == 0]


def rotated_pair(dim: int) -> tuple[int, int]:
    """Half of the coordinates in blocks, the rest in rows."""
    return max(1, dim // 2), dim


def random_clusters(vectors: NDArray[np.float32], count: int = 5, seed: int = 0) -> Clusters:
    """Clusters that mean nothing, some of them empty: the first filter must not rely on them."""
    rng = np.random.default_rng(seed)
    n = len(vectors)
    starts = np.concatenate(([0], np.sort(rng.integers(0, n + 1, count - 1)), [n]))
    return Clusters(rng.standard_normal((count, 1)), rng.permutation(n), starts)
