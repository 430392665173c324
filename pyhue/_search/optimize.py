"""Choosing a plan by measurement on a sample of the memory's own vectors.

Some stored vectors play the queries. Their true k-th distances over the whole memory are computed by brute
force, leaving out each one's own image; then each candidate plan packs a small sample, the kernels screen it
against those distances, and the survivors that they count tell the plan's cost.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.clustering import assigned, cluster_centroids
from pyhue._search.clusters import Clusters
from pyhue._search.index import Index, unmeasured
from pyhue._search.plan import (
    SAMPLE,
    FloatArray,
    Plan,
    mean,
    plain,
    principal,
    principal_directions,
)
from pyhue._search.stored import Stored
from pyhue._search.visit import measure

_LOG = logging.getLogger("pyhue")

Centroids: TypeAlias = NDArray[np.float64]

_K = 10
_RUNS, _RUN = 14, 7  # stretches of neighbouring vectors that play the queries
_PCA_SAMPLE = 16384
# Shares of the dimensions: to where blocks go, and rows, which begin earlier. Farther than the sample needs,
# for queries that are not like it: what blocks leave is taken one by one.
_BLOCK_SHARE, _ROW_SHARE, _ROW_BEGIN_SHARE = 0.6, 0.9, 0.4
_PCA_MAX_DIM = 2048  # beyond, finding the principal directions takes longer than they save

# What reading costs, in coordinates of a pair that the first filter could read instead; measured.
_FEW = 1 / 64  # share of a block's pairs that are taken one by one
_ROW_COST = 2000
_REFINE_COST = 120  # for each dimension of the vector


@dataclass(frozen=True)
class Estimate:
    """What a plan does on the sample, as means over pairs of a query and a vector."""

    plan: Plan
    survivors: dict[int, float]  #: share that survives, by how many coordinates were read

    @property
    def cost(self) -> float:
        """Work for each pair, in coordinates read by the first filter."""
        plan, cost, begin, reached = self.plan, 0.0, 0, 1.0
        for end in plan.block_ends:
            cost += reached * (end - begin)
            if end >= plan.row_begin or not plan.row_ends:
                reached = min(1.0, self.survivors[end] / _FEW)
            begin = end
        one_by_one = max(self.survivors[begin], min(self.survivors[plan.row_begin], _FEW))
        if plan.row_ends:
            return cost + one_by_one * _ROW_COST + self.survivors[plan.dims] * _REFINE_COST * len(plan.center)
        return cost + one_by_one * _REFINE_COST * len(plan.center)


def extended(index: Index, stored: Stored) -> Index:
    """The index with the rows that came later; where nothing was measured and there are twice as many, anew.

    The steps of its blocks are those of the vectors that it was made for.
    """
    if not index.measured and len(stored) >= 2 * index.planned:
        return unmeasured(stored)
    return index.extended(stored)


def optimized(
    stored: Stored,
    images: NDArray[np.int64],
    pack: Callable[[Stored, Plan, Centroids | None], Index] | None = None,
) -> Index:
    """The index that is fastest for vectors like those stored; `images` (n,) tells which belong together.

    `pack` makes the index of a plan and centroids of clusters. Default: in memory.
    """
    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    choice = choose(stored, images, rng)
    plan, centroids = choice.best.plan, None
    if plan.rotation is not None:
        centroids = cluster_centroids(stored, plan, rng)
    index = (pack or _packed)(stored, plan, centroids)
    searching = time.perf_counter()
    index.search(stored, choice.queries, _K)
    end = time.perf_counter()
    index.measured |= {
        "survivors": [choice.best.survivors[end] for end in sorted(choice.best.survivors)],
        "gf_eq": 2e-9 * len(choice.queries) * len(stored) * stored.dim / (end - searching),
    }
    index.reach = measure(index, stored, rng)
    index.measured["seconds"] = seconds = time.perf_counter() - begin
    _LOG.info(
        "packed %d vectors of %d channels in %.2f s: plan %s, stages %s in blocks, %s in rows",
        len(stored),
        stored.dim,
        seconds,
        plan.name,
        plan.block_ends,
        plan.row_ends,
    )
    for estimate in choice.estimates:
        _LOG.debug(
            "estimated %.0f a pair: plan %s, stages %s in blocks, %s in rows; survivors %s",
            estimate.cost,
            estimate.plan.name,
            estimate.plan.block_ends,
            estimate.plan.row_ends,
            estimate.survivors,
        )
    return index


def _packed(stored: Stored, plan: Plan, centroids: Centroids | None) -> Index:
    if centroids is None:
        return Index(stored, plan)
    return Index(stored, plan, Clusters(centroids, *assigned(stored, plan, centroids, range(len(stored)))))


@dataclass(frozen=True)
class Choice:
    """The plan of least cost, the queries that it was found with, and all estimates."""

    best: Estimate
    queries: NDArray[np.float32]
    estimates: list[Estimate]


def choose(stored: Stored, images: NDArray[np.int64], rng: np.random.Generator) -> Choice:
    """Compares the candidates on a sample."""
    starts = rng.integers(0, max(1, len(stored) - _RUN), _RUNS)
    asking = np.unique((starts[:, None] + np.arange(_RUN)).clip(max=len(stored) - 1))
    queries = stored.rows(asking)
    if np.count_nonzero(~np.isin(images, images[asking])) < _K:  # few others to find
        images = np.arange(len(stored))
    distances = _kth_distances(stored, images, queries, images[asking])
    others = np.flatnonzero(~np.isin(images, images[asking]))
    if not len(others):
        others = np.arange(len(stored))
    chosen = rng.choice(others, min(len(others), SAMPLE), replace=False)
    sample = stored.rows(np.sort(chosen))
    center = mean(stored)
    directions = None
    if stored.dim <= _PCA_MAX_DIM:
        wanted = min(len(stored), _PCA_SAMPLE)
        directions = principal_directions(stored.rows(rng.choice(len(stored), wanted, replace=False)), center)
    candidates = _candidates(center, directions, sample)
    estimates = [_estimate(plan, sample, queries, distances) for plan in candidates]
    return Choice(min(estimates, key=lambda estimate: estimate.cost), queries, estimates)


def _candidates(
    center: FloatArray, directions: FloatArray | None, sample: NDArray[np.float32]
) -> Iterator[Plan]:
    yield plain(center, sample)
    if directions is None:
        return
    unit, dims = _core.stage_dims, len(center)
    block_dims, row_dims = (round(share * dims / unit) * unit for share in (_BLOCK_SHARE, _ROW_SHARE))
    row_begin = (
        math.ceil(_ROW_BEGIN_SHARE * dims / unit) * unit
    )  # not earlier: up to block_dims, stored twice
    if 0 < row_begin <= block_dims < row_dims <= dims:
        yield principal(center, directions[:row_dims], sample, block_dims, row_begin)
    else:
        yield principal(center, directions, sample)


def _kth_distances(
    stored: Stored, images: NDArray[np.int64], queries: NDArray[np.float32], own: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The k-th smallest squared distance of each query to vectors of other images; an estimate in float32."""
    squares = np.einsum("ij,ij->i", queries, queries)
    best = np.full((len(queries), _K), np.inf, np.float32)
    start = 0
    for part in stored.parts():
        with np.errstate(over="ignore", invalid="ignore"):
            distances = squares[:, None] + np.einsum("ij,ij->i", part, part) - 2 * (queries @ part.T)
        distances[np.isnan(distances)] = np.inf  # beyond float32
        distances[own[:, None] == images[start : start + len(part)]] = np.inf
        best = np.partition(np.hstack((best, distances)), _K - 1, axis=1)[:, :_K]
        start += len(part)
    kth: NDArray[np.float32] = best.max(axis=1)
    return kth


def _estimate(
    plan: Plan, sample: NDArray[np.float32], queries: NDArray[np.float32], distances: NDArray[np.float32]
) -> Estimate:
    stored = Stored(sample)
    read, _ = Index(stored, plan).audit(stored, queries, distances)
    ends = {*plan.block_ends, *plan.row_ends}
    return Estimate(plan, {end: float(((read == 0) | (read > end)).mean()) for end in ends})
