"""Results are the same whatever the plan; `optimize` chooses one that makes sense; bfloat16 memories."""

from dataclasses import replace

import numpy as np
import pytest
from families import draw
from plans import all_plans, random_clusters
from reference import assert_exact, assert_same, memory_of, running_at

import pyhue
import pyhue.memory
from pyhue import _core
from pyhue._search.clustering import assigned, cluster_centroids
from pyhue._search.clusters import Clusters
from pyhue._search.index import Index
from pyhue._search.plan import mean, plain, principal, principal_directions
from pyhue._search.stored import Stored

LEVELS = _core.available_isas()


def _clusters(stored, plan):
    centroids = cluster_centroids(stored, plan, np.random.default_rng(0))
    return Clusters(centroids, *assigned(stored, plan, centroids, range(len(stored))))


def _images(vectors, labels=2, pixels=7, dtype="float32"):
    """A memory of images of a few pixel vectors each."""
    memory = pyhue.PixelMemory(vectors.shape[1], normalize=False, dtype=dtype)
    whole = vectors[: len(vectors) // pixels * pixels].reshape(-1, pixels, vectors.shape[1])
    memory.add(whole, np.arange(len(whole)) % labels)
    return memory


def _low_rank(n, dim, rank=12, seed=0):
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(1).standard_normal((rank, dim))
    return (rng.standard_normal((n, rank)) @ basis + 0.05 * rng.standard_normal((n, dim))).astype(np.float32)


def _few_active(n, dim, seed=0):
    """Runs of 7 vectors that are active in the same few channels."""
    rng = np.random.default_rng(seed)
    active = np.repeat(rng.random((n // 7 + 1, dim)) < 0.05, 7, axis=0)[:n]
    return np.where(active, rng.uniform(0.5, 1.5, (n, dim)), 0).astype(np.float32)


@pytest.mark.parametrize("family", ["relu85", "lattice", "one ulp", "20 orders", "overflow"])
def test_every_plan_gives_the_same(family):
    vectors, queries = draw(family, 300, 70), draw(family, 120, 70, seed=1)
    stored = Stored(vectors)
    expected = {k: None for k in (1, 10, 100)}
    for plan in all_plans(vectors):
        for clusters in (None, random_clusters(vectors)):
            index = Index(stored, plan, clusters)
            for level in LEVELS:
                with running_at(level, 2):
                    result = pyhue.SearchResult(*index.search(stored, queries, 100))
                if expected[100] is None:
                    part = pyhue.SearchResult(*(values[:40] for values in result))
                    assert_exact(part, queries[:40], vectors)
                    expected[100] = result
                assert_same(result, expected[100])
            for k in (1, 10):
                found = pyhue.SearchResult(*index.search(stored, queries, k))
                assert_same(found, pyhue.SearchResult(*(values[:, :k] for values in expected[100])))


@pytest.mark.parametrize("family", ["relu85", "one ulp"])
def test_batch_sizes_and_threads_change_nothing(isa, threads, family):
    vectors, queries = draw(family, 500, 65), draw(family, 490, 65, seed=1)
    stored, center = Stored(vectors), mean(Stored(vectors))
    plans = all_plans(vectors)
    clustered = principal(center, principal_directions(vectors, center), vectors, 64, 0)
    for plan in (plans[0], plans[4], clustered, plans[-1]):
        real = _clusters(stored, plan) if plan is clustered else None
        index = Index(stored, plan, real or random_clusters(vectors))
        for k in (1, 10, 100):
            whole = pyhue.SearchResult(*index.search(stored, queries, k))
            assert_exact(pyhue.SearchResult(*(part[:9] for part in whole)), queries[:9], vectors)
            for batch in (7, 49) if k != 10 else (1, 7, 49):
                parts = [index.search(stored, queries[i : i + batch], k) for i in range(0, 490, batch)]
                assert_same(pyhue.SearchResult(*map(np.concatenate, zip(*parts, strict=True))), whole)


def test_more_queries_than_one_pass(isa):
    vectors, queries = draw("relu60", 300, 12), draw("relu60", 3000, 12, seed=1)
    stored = Stored(vectors)
    for plan in all_plans(vectors)[::4]:
        index = Index(stored, plan, random_clusters(vectors))
        assert_exact(pyhue.SearchResult(*index.search(stored, queries, 5)), queries, vectors)


@pytest.mark.parametrize("k", [1024, 1500])
def test_large_k(isa, k):
    vectors, queries = draw("duplicated", 1500, 40), draw("normal", 8, 40, seed=1)
    stored = Stored(vectors)
    for plan in all_plans(vectors)[::5]:
        assert_exact(pyhue.SearchResult(*Index(stored, plan).search(stored, queries, k)), queries, vectors)


def test_empty_memories_have_nothing_to_optimize():
    memory = pyhue.PixelMemory(5)
    with pytest.raises(ValueError, match="memory"):
        memory.optimize()
    assert memory.explain() == {}


@pytest.mark.parametrize(
    ("data", "clusters"), [(_low_rank, True), (lambda n, d: draw("uniform", n, d), False)]
)
def test_explain(data, clusters):
    memory = _images(data(3500, 256))
    assert memory.explain() == {}
    memory.search(np.ones(256, np.float32), 1)
    before = memory.explain()
    assert (before["plan"], before["vectors"]) == ("plain", 3500)
    memory.optimize()
    after = memory.explain()
    parts = {"plan", "block_ends", "row_begin", "row_ends"}
    assert {"device", "bytes_per_vector", "vectors", "last_search"} | parts == set(before)
    assert before["device"] == "cpu"
    recalls = {"recalls", "recall_found", "recall_read", "recall_seconds", "exact_seconds"}
    measured = {"survivors", "gf_eq", "seconds"} | (recalls if clusters else set())
    assert set(after) == set(before) | measured
    assert after["survivors"] == sorted(after["survivors"], reverse=True)
    assert after["bytes_per_vector"] > 256 * 4


@pytest.mark.parametrize(
    ("data", "chosen"),
    [
        (_low_rank, "principal"),
        (lambda n, d: draw("uniform", n, d), "plain"),
    ],
    ids=["low rank", "uniform"],
)
def test_the_plan_fits_the_data(data, chosen):
    memory = _images(data(3500, 256))
    memory.optimize()
    assert memory.explain()["plan"] == chosen


def test_how_far_blocks_go_is_the_same_for_every_sample():
    """Queries are not always like the sample: near vectors of one's own, as in the second, tell nothing."""
    vectors = _low_rank(3500, 256)
    stages = []
    for pixels in (7, 1):
        memory = _images(np.repeat(vectors[::7], 7, axis=0), pixels=pixels)
        memory.optimize()
        told = memory.explain()
        stages.append((told["plan"], told["block_ends"], told["row_begin"], told["row_ends"]))
    assert stages[0] == stages[1] == ("principal", [64, 128], 128, [192, 256])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("data", [_few_active, _low_rank], ids=["few active", "low rank"])
def test_vectors_added_after_optimize_are_found(isa, threads, data, dtype):
    memory = _images(data(1400, 96), dtype=dtype)
    memory.optimize()
    for seed, scale in ((1, 1), (2, 1e3), (3, 1e19), (4, 1e-20)):
        memory.add((data(77, 96, seed=seed) * np.float32(scale))[None], [seed])
        queries = np.concatenate([data(20, 96, seed=9), memory.vectors[-3:]])
        assert_exact(memory.search(queries, 10), queries, memory.vectors)
    memory.optimize()
    assert memory.explain()["vectors"] == len(memory)
    assert_exact(memory.search(queries, 10), queries, memory.vectors)


@pytest.mark.parametrize("pieces", [1, 40])
@pytest.mark.parametrize(
    "family", ["overflow", "all overflow", "huge 1e18", "20 orders", "zeros", "subnormal"]
)
def test_optimize_takes_any_values(family, pieces):
    memory = memory_of(draw(family, 600, 100), pieces=pieces)
    queries = draw(family, 9, 100, seed=1)
    memory.optimize()
    assert_exact(memory.search(queries, 10), queries, memory.vectors)


def test_optimize_of_small_memories():
    for n in (1, 2, 13):
        memory = memory_of(draw("normal", n, 3))
        memory.optimize()
        queries = draw("normal", 4, 3, seed=1)
        assert_exact(memory.search(queries, 5), queries, memory.vectors)


def test_the_first_search_of_a_large_memory_optimizes(monkeypatch):
    monkeypatch.setattr("pyhue._search.host.OPTIMIZE_FROM", 350)
    small, large = _images(draw("relu85", 343, 40)), _images(draw("relu85", 350, 40))
    queries = draw("relu85", 5, 40, seed=1)
    for memory in (small, large):
        assert_exact(memory.search(queries, 3), queries, memory.vectors)
    assert "gf_eq" not in small.explain()
    assert "gf_eq" in large.explain()


def test_votes_are_the_same_after_optimize():
    memory = _images(_few_active(1400, 64), labels=5)
    images = _few_active(70, 64, seed=3).reshape(10, 7, 64)
    before = memory.log_likelihood(images)
    memory.optimize()
    np.testing.assert_array_equal(memory.log_likelihood(images), before)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_failure_during_optimize_leaves_the_memory_usable(monkeypatch, error):
    memory = _images(draw("relu60", 700, 64))
    queries = draw("relu60", 5, 64, seed=1)
    memory.search(queries, 3)

    def fail(*_):
        raise error

    for name in ("choose", "mean"):
        with monkeypatch.context() as patched:
            patched.setattr(f"pyhue._search.optimize.{name}", fail)
            with pytest.raises(error):
                memory.optimize()
        assert_exact(memory.search(queries, 3), queries, memory.vectors)


def test_largest_dim_has_no_principal_plan():
    memory = _images(draw("relu85", 140, 4096))
    memory.optimize()
    assert memory.explain()["plan"] != "principal"
    queries = draw("relu85", 5, 4096, seed=1)
    assert_exact(memory.search(queries, 10), queries, memory.vectors)


@pytest.mark.parametrize("family", ["relu85", "20 orders", "huge 1e18", "one ulp", "subnormal"])
def test_bfloat16_memories_are_exact_for_what_they_store(isa, threads, family, tmp_path):
    vectors, queries = draw(family, 350, 65), draw(family, 9, 65, seed=1)
    memory = _images(vectors, dtype="bfloat16")
    assert memory.vectors.dtype == np.float32
    assert (memory.vectors.view(np.uint32) & 0xFFFF == 0).all()
    normal = np.abs(vectors) > 1e-37
    assert (np.abs(memory.vectors - vectors)[normal] <= np.abs(vectors[normal]) * 2.0**-8).all()
    for optimize in (False, True):
        if optimize:
            memory.optimize()
        assert_exact(memory.search(queries, 10), queries, memory.vectors)
    memory.save(tmp_path / "memory.safetensors")
    loaded = pyhue.PixelMemory.load(tmp_path / "memory.safetensors")
    assert loaded.dtype == "bfloat16"
    np.testing.assert_array_equal(loaded.vectors, memory.vectors)
    assert_same(loaded.search(queries, 10), memory.search(queries, 10))


def test_bfloat16_halves_the_bytes():
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        memory = _images(draw("relu60", 350, 64), dtype=dtype)
        memory.search(np.zeros(64, np.float32), 1)
        sizes[dtype] = memory.explain()["bytes_per_vector"]
    assert sizes["float32"] - sizes["bfloat16"] == pytest.approx(64 * 2)  # quotients


def test_bfloat16_rejects_what_it_cannot_hold():
    memory = pyhue.PixelMemory(3, normalize=False, dtype="bfloat16")
    vectors = np.ones((1, 4, 3), np.float32)
    vectors[0, 2, 1] = -3.4e38
    with pytest.raises(ValueError, match="row 2"):
        memory.add(vectors, [0])
    assert len(memory) == 0
    memory.add(np.full((1, 2, 3), 3.3e38, np.float32), [0])
    assert np.isfinite(memory.vectors).all()


def test_ties_at_the_limit_are_compared(isa):
    """Nothing is rounded here, so that a limit just too low would leave out lower rows that come later."""
    vectors = np.tile(100 * np.eye(20, dtype=np.float32), (10, 1))
    plan = replace(plain(np.zeros(20), vectors), steps=np.ones(20))
    index = Index(Stored(vectors), plan, random_clusters(vectors))
    _, found = index.search(Stored(vectors), np.zeros((1, 20), np.float32), 5)
    assert found.tolist() == [[0, 1, 2, 3, 4]]
