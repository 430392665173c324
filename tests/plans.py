"""Every kind of plan for given vectors, also ones that nobody would choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.clusters import Clusters
from pyhue._search.plan import FloatArray, Plan, mean, plain, principal, principal_directions
from pyhue._search.stored import Stored


def all_plans(vectors: NDArray[np.float32]) -> list[Plan]:
    """Plain and principal, with rows and without, about mean and zero, rotations exact or not; unit steps."""
    dim = vectors.shape[1]
    zero, center = np.zeros(dim), mean(Stored(vectors))
    directions = principal_directions(vectors, center)
    plans = [plain(center, vectors), plain(zero, vectors)]
    for rows in sorted({1, max(1, dim // 2), dim}):  # of the rotation: what follows is known by its norm only
        plans += rotated(center, directions[:rows], vectors)
    plans += rotated(zero, directions, vectors)
    for factor in (0.98, 1.02):
        plans += rotated(zero, directions * factor, vectors)
    few = plain(
        center, vectors[: max(1, len(vectors) // 10)]
    )  # steps of a sample that has not seen everything
    return [*plans, few, *(replace(plan, steps=np.ones(dim)) for plan in plans[:2])]


def rotated(center: FloatArray, directions: FloatArray, sample: NDArray[np.float32]) -> list[Plan]:
    """In blocks, and with rows where there are coordinates enough."""
    plans = [principal(center, directions, sample)]
    unit = _core.stage_dims
    for block_dims in range(unit, len(directions), unit):
        plans += [principal(center, directions, sample, block_dims, begin) for begin in (0, block_dims)]
    return plans


def random_clusters(vectors: NDArray[np.float32], count: int = 5, seed: int = 0) -> Clusters:
    """Clusters that mean nothing, some of them empty: the first filter must not rely on them."""
    rng = np.random.default_rng(seed)
    n = len(vectors)
    starts = np.concatenate(([0], np.sort(rng.integers(0, n + 1, count - 1)), [n]))
    return Clusters(rng.standard_normal((count, 1)), rng.permutation(n), starts)
