"""Where thresholds begin: distances of different vectors, whatever pieces they lie in; given limits."""

import itertools

import numpy as np
import pytest

import pyhue
from pyhue import _core
from pyhue._search.clustering import assigned, cluster_centroids
from pyhue._search.clusters import Clusters
from pyhue._search.index import Index
from pyhue._search.plan import mean, principal, principal_directions, sample_of
from pyhue._search.stored import Stored

K = 10
DIM = 128


@pytest.fixture(scope="module", params=[1, 5], ids=["one piece", "five pieces"])
def searched(request):
    """Arguments of `_core.search`, and the true distances (queries, n), sorted."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, DIM), np.float32)
    vectors = centres[rng.integers(0, 12, 3000)] + 0.5 * rng.standard_normal((3000, DIM), np.float32)
    queries = vectors[::150] + 0.1 * rng.standard_normal((20, DIM), np.float32)
    stored = Stored(vectors)
    directions = principal_directions(vectors, mean(stored))
    plan = principal(mean(stored), directions, sample_of(stored))
    centroids = cluster_centroids(stored, plan, rng)
    clusters = Clusters(centroids, *assigned(stored, plan, centroids, range(len(stored))))
    ends = np.linspace(0, len(vectors), request.param + 1).astype(int)
    pieces = []
    for begin, end in itertools.pairwise(ends):
        part = Stored(vectors[begin:end])
        index = Index(part, plan, Clusters(centroids, *assigned(part, plan, centroids, range(len(part)))))
        pieces.append(_core.Piece(part.array, index.pieces[0].core, int(begin)))
    nearest = clusters.nearest(plan.projection.coordinates(queries).values, 2)
    asked = _core.Queries(queries, plan.projection.coordinates(queries), nearest)
    memory = pyhue.VectorMemory(DIM, normalize=False)
    memory.add(vectors)
    distances = memory.search(queries, len(vectors)).distances
    return (pieces, _core.Layout(*plan.layout), asked), distances


def test_they_are_those_of_different_vectors(searched):
    arguments, distances = searched
    near = _core.near_distances(*arguments, K)
    assert np.isfinite(near).all()
    assert (near >= distances[:, :K]).all()  # twice the same vector would be too near
    for row, true in zip(near, distances, strict=True):
        assert np.isin(row, true).all()
    assert (near[:, -1] <= distances[:, 4 * K]).all()  # and they are near


def test_what_may_not_be_found_is_not_counted(searched):
    arguments, distances = searched
    found = _core.search(*arguments, K)[1]
    left_out = np.zeros(3000 // 8, np.uint8)
    np.bitwise_or.at(left_out, found[0] >> 3, np.left_shift(1, found[0] & 7).astype(np.uint8))
    near = _core.near_distances(*arguments, K, _core.Chosen(left_out, None, None))
    assert (near[0] >= distances[0, K : 2 * K]).all()


def test_vectors_at_a_limit_are_found(searched):
    arguments, distances = searched
    limits = np.ascontiguousarray(distances[:, K - 1])
    found = _core.search(*arguments, K, None, limits)
    for got, expected in zip(found[:2], _core.search(*arguments, K)[:2], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_limits_spare_distances(searched):
    """Of vectors farther than the nearest, nearly all; without limits 10 of each query at least."""
    arguments, distances = searched
    none = np.full(len(distances), np.inf, np.float32)
    nearest = np.ascontiguousarray(distances[:, 0])
    compared = [_core.search(*arguments, K, None, limits)[2][-1] for limits in (none, nearest)]
    assert compared[1] < 2 * len(distances) < K * len(distances) <= compared[0]


def test_limits_are_one_for_each_query(searched):
    arguments, distances = searched
    with pytest.raises(ValueError, match=r"^limits"):
        _core.search(*arguments, K, None, np.zeros(len(distances) + 1, np.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e15, 1e25, 1e37, None])
def test_vectors_of_any_size_have_clusters(scale):
    """Also where squared distances, or coordinates, are beyond float32."""
    rng = np.random.default_rng(0)
    if scale:
        vectors = (rng.standard_normal((600, DIM)) * scale).astype(np.float32)
    else:
        vectors = np.outer(rng.choice([-3e38, 3e38, 2e38], 600), np.ones(DIM)).astype(np.float32)
    stored = Stored(vectors)
    center = mean(stored)
    plan = principal(center, principal_directions(vectors, center), sample_of(stored))
    centroids = cluster_centroids(stored, plan, np.random.default_rng(1))
    assert np.isfinite(centroids).all()
    order, starts = assigned(stored, plan, centroids, range(len(stored)))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(stored)))
    assert (len(starts), starts[0], starts[-1]) == (len(centroids) + 1, 0, len(stored))
