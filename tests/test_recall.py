"""`search(..., recall=)`: it is reached, what is found is exact, and nothing else decides the answer."""

import os
import pickle

import numpy as np
import pytest
import safetensors.numpy

import pyhue
from pyhue import _core
from pyhue._search import reach, selection, visit

DIM, COUNT, K = 96, 6000, 10


def vectors(count, seed):
    """About 60 centres, of variance that falls from channel to channel."""
    fall = 0.93 ** np.arange(DIM)
    centres = np.random.default_rng(7).standard_normal((60, DIM)) * fall
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 60, count)] + 0.7 * rng.standard_normal((count, DIM)) * fall).astype(
        np.float32
    )


QUERIES = vectors(150, 2)


@pytest.fixture(scope="module", params=[False, True], ids=["raw", "normalized"])
def memory(request):
    memory = pyhue.VectorMemory(DIM, normalize=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyhue._search.clustering._SIZE", 64)  # small clusters, so that few of them are little
        memory.add(vectors(COUNT, 1))
        memory.optimize()
    assert memory._on_cpu.index.clusters is not None
    return memory


def recall_of(found, exact):
    return np.mean([len(set(a) & set(b)) / exact.shape[-1] for a, b in zip(found, exact, strict=True)])


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_exact_distances(found, every):
    """What was found is sorted, ties by row, and each distance is that of the exact search of all vectors."""
    for distances, indices, all_distances, all_indices in zip(*found, *every, strict=True):
        there = indices >= 0
        order = np.lexsort((indices[there], distances[there]))
        np.testing.assert_array_equal(order, np.arange(there.sum()))
        assert len(set(indices[there])) == there.sum()
        of = np.empty(len(all_indices), np.float32)
        of[all_indices] = all_distances
        np.testing.assert_array_equal(distances[there], of[indices[there]])


@pytest.mark.parametrize("recall", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_the_recall_is_reached_by_looking_at_less(memory, recall, k):
    exact = memory.search(QUERIES, k)
    whole = memory._on_cpu.last.pairs
    found = memory.search(QUERIES, k, recall=recall)
    assert recall_of(found.indices, exact.indices) >= recall
    assert memory._on_cpu.last.pairs < 0.8 * whole
    assert_exact_distances(found, memory.search(QUERIES, COUNT))


def test_of_ties_the_lower_rows_are_found():
    memory = pyhue.VectorMemory(DIM, normalize=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyhue._search.clustering._SIZE", 64)
        memory.add(np.repeat(vectors(COUNT // 4, 1), 4, axis=0))
        memory.optimize()
    found = memory.search(QUERIES, 6, recall=0.9)
    assert_exact_distances(found, memory.search(QUERIES, COUNT))
    # Equal vectors are in one cluster: all four are found, or the lowest where there is no room.
    assert (found.indices[:, 0] % 4 == 0).all()
    np.testing.assert_array_equal(found.indices[:, :4], found.indices[:, :1] + np.arange(4))
    np.testing.assert_array_equal(found.indices[:, 5], found.indices[:, 4] + 1)


def test_measured_queries_also_play_those_whose_nearest_are_not_stored(memory, monkeypatch):
    """Or new vectors, beside near-duplicates of others, were taken for such as have their own there."""
    index, stored = memory._on_cpu.index, memory._newest()
    rows = visit._sample(stored, np.random.default_rng(3))
    found = visit.measure(index, stored, np.random.default_rng(3))
    n, without = len(rows), visit._NEARER
    assert found.near.shape == found.gaps.shape == (2 * n, 100)
    monkeypatch.setattr(visit, "_MOST", 100 + without)
    monkeypatch.setattr(visit, "_NEARER", 0)
    whole = visit.measure(index, stored, np.random.default_rng(3))
    np.testing.assert_array_equal(
        found.gaps, np.concatenate([whole.gaps[:n, :100], whole.gaps[:n, without:]])
    )
    np.testing.assert_array_equal(found.near[:n], whole.near[:n, :100])
    exact = index.search(stored, stored.rows(rows), without, selection.Selection(exclude=rows))[0]
    for row, nearest in enumerate(exact):
        left = whole.near[row][~np.isin(whole.near[row], nearest)]
        np.testing.assert_array_equal(found.near[n + row], left[:100])


def test_without_a_recall_nothing_changes(memory, monkeypatch):
    exact = memory.search(QUERIES)
    monkeypatch.setattr("pyhue._search.host.recalled", lambda *_: pytest.fail("visited clusters"))
    for everything in (None, 1, 1.0, np.float32(1)):
        assert_same(memory.search(QUERIES, recall=everything), exact)


@pytest.mark.parametrize("recall", [0.7, 0.95])
def test_neither_level_nor_threads_nor_batch_matter(memory, isa, threads, recall):
    queries = np.concatenate([QUERIES, QUERIES[::-1] * 3])
    with_all = memory.search(queries, K, recall=recall)
    before = _core.isa()
    _core.set_isa("generic")
    expected = memory.search(queries, K, recall=recall)
    _core.set_isa(before)
    assert_same(with_all, expected)
    for size in (1, 7, 64):
        parts = [memory.search(queries[i : i + size], K, recall=recall) for i in range(0, len(queries), size)]
        assert_same(map(np.concatenate, zip(*parts, strict=True)), expected)


def test_gaps_have_the_same_bits_at_every_level(memory):
    index, before, found = memory._on_cpu.index, _core.isa(), []
    for level in _core.available_isas():
        _core.set_isa(level)
        found.append(index.clusters.gaps(index.plan, QUERIES))
    _core.set_isa(before)
    for gaps in found:
        np.testing.assert_array_equal(gaps, found[0])
    assert (found[0].min(axis=1) == 0).all()


def test_a_query_unlike_those_measured_is_searched_exactly(memory):
    far = vectors(20, 3) * np.random.default_rng(0).choice([-1, 1], DIM)
    far = far + 3 * np.random.default_rng(1).standard_normal(far.shape).astype(np.float32)
    assert_same(memory.search(far, recall=0.5), memory.search(far))


def test_larger_than_a_batch(memory, monkeypatch):
    expected = memory.search(QUERIES, recall=0.9, exclude=np.arange(150))
    monkeypatch.setattr(visit, "_BATCH", 64)
    assert_same(memory.search(QUERIES, recall=0.9, exclude=np.arange(150)), expected)
    assert memory.search(QUERIES[:0], recall=0.9).indices.shape == (0, K)


def test_where_and_exclude(memory):
    rng = np.random.default_rng(0)
    for share in (0.3, 0.7):
        where = rng.random(COUNT) < share
        exact = memory.search(QUERIES, where=where)
        found = memory.search(QUERIES, where=where, recall=0.9)
        assert where[found.indices].all()
        assert recall_of(found.indices, exact.indices) >= 0.9
        assert_exact_distances(found, memory.search(QUERIES, COUNT))
    few = rng.random(COUNT) < 0.02
    assert_same(memory.search(QUERIES, where=few, recall=0.5), memory.search(QUERIES, where=few))
    assert_same(memory.search(QUERIES, 101, where=few, recall=0.5), memory.search(QUERIES, 101, where=few))
    itself = memory.search(memory.vectors[:50], exclude=np.arange(50), recall=0.9)
    assert (itself.indices != np.arange(50)[:, None]).all()


def test_what_was_added_is_found_and_what_was_removed_is_not(memory):
    changed = pickle.loads(pickle.dumps(memory))
    before = changed.search(QUERIES, recall=0.9)
    assert_same(before, memory.search(QUERIES, recall=0.9))
    rows = changed.add(QUERIES + np.float32(1e-3))
    for _ in range(8):  # compared one by one, then packed
        found = changed.search(QUERIES, 1, recall=0.5)
        np.testing.assert_array_equal(found.indices[:, 0], rows)
    changed.remove(rows)
    assert_same(changed.search(QUERIES, recall=0.9), before)
    changed.remove(before.indices[:, 0])
    assert not np.isin(changed.search(QUERIES, recall=0.9).indices, before.indices[:, 0]).any()


def test_images_and_their_votes():
    maps = vectors(COUNT, 1).reshape(-1, 5, DIM)
    memory = pyhue.PixelMemory(DIM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyhue._search.clustering._SIZE", 64)
        memory.add(maps, np.arange(len(maps)) % 3)
        memory.optimize()
    asked = QUERIES.reshape(-1, 5, DIM)
    exact, found = memory.search(asked), memory.search(asked, recall=0.95)
    flat = (each.indices.reshape(150, K) for each in (found, exact))
    assert 0.95 <= recall_of(*flat) < 1
    expected = pyhue.density(
        found.distances, np.where(found.indices >= 0, memory.labels[found.indices], -1), memory.class_counts
    )
    np.testing.assert_array_equal(memory.log_likelihood(asked, recall=0.95), expected)
    np.testing.assert_array_equal(memory.predict(asked, recall=0.95), expected.argmax(1))
    left_out = memory.search(maps[:30], exclude=np.arange(30), recall=0.9)
    assert (memory.images[left_out.indices] != np.arange(30)[:, None, None]).all()


def test_the_measured_table_is_kept(memory, tmp_path):
    expected = memory.search(QUERIES, recall=0.9)
    memory.save(tmp_path / "memory.safetensors")
    memory.save(tmp_path / "memory")
    loaded = pyhue.VectorMemory.load(tmp_path / "memory.safetensors")
    with pyhue.VectorMemory.open(tmp_path / "memory", "a") as opened:
        assert_same(loaded.search(QUERIES, recall=0.9), expected)
        assert_same(opened.search(QUERIES, recall=0.9), expected)
        opened.optimize()  # measured anew, from the folder
        again = opened.search(QUERIES, recall=0.9)
    assert_same(pyhue.VectorMemory.open(tmp_path / "memory").search(QUERIES, recall=0.9), again)


@pytest.mark.parametrize("damage", ["missing", "shape", "nan"])
def test_a_damaged_table_is_refused(memory, tmp_path, damage):
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = safetensors.numpy.load_file(path)
    (name,) = (name for name in arrays if name.endswith("recall_gaps"))
    if damage == "missing":
        del arrays[name]
    elif damage == "shape":
        arrays[name] = arrays[name][:-1].copy()
    else:
        arrays[name][0, 0] = np.nan
    safetensors.numpy.save_file(arrays, path, metadata)
    with pytest.raises(ValueError, match=r"memory\.safetensors: what was measured of recalls does not fit"):
        pyhue.VectorMemory.load(path)


def test_explain_tells_what_was_measured(memory):
    told = memory.explain()
    assert told["recalls"] == list(visit.RECALLS)
    for recall, found in zip(told["recalls"], told["recall_found"], strict=True):
        assert recall - 0.02 < found <= 1
    assert all(0 < share < 1 for share in told["recall_read"])
    assert min(told["recall_seconds"]) > 0 < told["exact_seconds"]


@pytest.mark.parametrize("wrong", [0, -0.1, 1.01, np.nan, np.inf])
def test_no_share(memory, wrong):
    with pytest.raises(ValueError, match="recall: expected above 0 and at most 1, got"):
        memory.search(QUERIES, recall=wrong)


@pytest.mark.parametrize("wrong", ["0.9", True, [0.9]])
def test_no_number(memory, wrong):
    with pytest.raises(TypeError, match="recall: expected a number or None, got"):
        memory.search(QUERIES, recall=wrong)


def test_where_it_does_not_pay_it_says_why(memory, monkeypatch):
    with pytest.raises(ValueError, match="k: expected at most 100 with a recall, got 101"):
        memory.search(QUERIES, 101, recall=0.9)
    small = pyhue.VectorMemory(DIM)
    small.add(vectors(300, 1))
    with pytest.raises(
        ValueError, match="recall: the memory has no clusters to choose from: it is too small"
    ):
        small.search(QUERIES, recall=0.9)
    random = pyhue.VectorMemory(DIM)
    random.add(np.random.default_rng(0).random((3000, DIM)))
    random.optimize()
    with pytest.raises(ValueError, match="filters gain nothing with its vectors"):
        random.search(QUERIES, recall=0.9)
    monkeypatch.setattr(reach, "LARGEST_SHARE", 0.01)
    with pytest.raises(ValueError, match=r"recall: 0.999 of 40 neighbours would take \d+% of the vectors"):
        memory.search(QUERIES, 40, recall=0.999)
    old = pickle.loads(pickle.dumps(memory))
    old._on_cpu.index.reach = None
    with pytest.raises(ValueError, match=r"recall: it was not measured for this memory; call optimize\(\)"):
        old.search(QUERIES, recall=0.9)


def test_a_gpu_refuses(memory):
    pickled = pickle.loads(pickle.dumps(memory))
    pickled._on_gpu = type("Search", (), {"device": "cuda:0"})()
    with pytest.raises(RuntimeError, match="memory: recall searches on the CPU"):
        pickled.search(QUERIES, recall=0.9)


@pytest.mark.skipif(not os.environ.get("PYHUE_DATA"), reason="PYHUE_DATA does not name the data folder")
def test_real_activations(tmp_path):
    """Queries of images that are not stored."""
    path = os.path.join(os.environ.get("PYHUE_BENCH_CACHE", ""), "int8.npy")
    if not os.path.exists(path):
        pytest.skip("bench/bench_search.py makes the activations")
    activations = np.load(path, mmap_mode="r")
    memory = pyhue.PixelMemory(1280, dtype="bfloat16")
    memory.add(activations[10:510], np.zeros(500, np.int64))
    memory.optimize()
    queries = np.asarray(activations[:10], np.float32).reshape(-1, 1280)
    exact = memory.search(queries)
    for recall in (0.8, 0.9):  # 0.95 of so few would not pay
        found = memory.search(queries, recall=recall)
        assert recall_of(found.indices, exact.indices) >= recall
        same = found.indices == exact.indices
        np.testing.assert_array_equal(found.distances[same], exact.distances[same])
