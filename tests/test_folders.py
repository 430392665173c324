"""Memories in folders: what is written is found again, the same bits, whoever looks."""

import gc
import json
import multiprocessing
import os
import pickle
import re
import sys
import warnings
from io import UnsupportedOperation
from pathlib import Path

import numpy as np
import pytest
from families import draw
from reference import assert_same

import pyhue
from pyhue._saved import folder as folders
from pyhue._saved import publish as publishing
from pyhue._search import clustering, host

DIM = 24


def images(count, seed=0):
    maps = draw("relu60", count * 6, DIM, seed).reshape(count, 6, DIM).copy()
    maps[::7, 0] = 0  # vectors without a direction
    return maps, np.arange(count) * 3 % 7


def labelled(*batches, **options):
    memory = pyhue.PixelMemory(DIM, **options)
    for batch in batches:
        memory.add(*batch)
    return memory


@pytest.fixture
def planned(monkeypatch):
    """Memories of some vectors get a plan, as those of 20,000 do."""
    for module in (publishing, host):
        monkeypatch.setattr(module, "OPTIMIZE_FROM", 100)


QUERIES = draw("relu60", 9, DIM, 5)


def assert_equal(one, other, k=10):
    """The same memory: whatever is asked."""
    assert len(one) == len(other)
    assert_same(one.search(QUERIES, k), other.search(QUERIES, k))
    np.testing.assert_array_equal(one.vectors, other.vectors)
    if isinstance(one, pyhue.PixelMemory):
        for name in ("labels", "images", "pixels", "classes", "class_counts"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert not getattr(other, name).flags.writeable
        maps = images(4, 9)[0]
        np.testing.assert_array_equal(one.log_likelihood(maps), other.log_likelihood(maps))
        assert repr(one) == repr(other)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_what_was_saved(tmp_path, planned, normalize, dtype, count):
    memory = labelled(images(count), normalize=normalize, dtype=dtype)
    memory.save(tmp_path / "memory")
    for found in (pyhue.PixelMemory.open(tmp_path / "memory"), pyhue.PixelMemory.load(tmp_path / "memory")):
        if count:
            assert_equal(memory, found)
        assert (found.dim, found.normalize, found.dtype) == (DIM, normalize, dtype)
        assert len(found) == len(memory)
    found.add(*images(3, 1))
    assert len(found) == len(memory) + 18
    assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == len(memory)


def test_vectors_without_labels(tmp_path, planned):
    memory = pyhue.VectorMemory(DIM)
    memory.add(draw("relu60", 300, DIM))
    memory.save(tmp_path / "memory")
    with pyhue.VectorMemory.open(tmp_path / "memory", "a") as opened:
        for each in (memory, opened):
            each.add(draw("relu60", 40, DIM, 3))
        assert_equal(memory, opened)
    assert_equal(memory, pyhue.VectorMemory.open(tmp_path / "memory"))
    assert_equal(memory, pyhue.VectorMemory.load(tmp_path / "memory"))
    with pytest.raises(
        ValueError, match=r"memory: expected a memory of kind pyhue\.PixelMemory, got pyhue\.VectorMemory"
    ):
        pyhue.PixelMemory.open(tmp_path / "memory")


def test_added_in_turns_by_one_seen_by_others(tmp_path, planned):
    expected = labelled()
    expected.save(tmp_path / "memory")
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    with pyhue.PixelMemory.open(tmp_path / "memory", mode="a") as writer:
        for turn in range(6):
            batch = images(5 + 8 * turn, turn)
            before = len(reader)
            for memory in (expected, writer):
                memory.add(*batch)
            assert_equal(expected, writer)  # at once
            assert not reader.refresh()
            assert len(reader) == before
            writer.flush()
            assert len(reader) == before
            assert_equal(expected, writer)
            assert reader.refresh()
            assert_equal(expected, reader)
            assert_equal(expected, pyhue.PixelMemory.open(tmp_path / "memory"))
    files = sorted(os.listdir(tmp_path / "memory"))
    assert len([name for name in files if name.startswith("segment")]) == 6
    assert len([name for name in files if name.startswith("packed")]) == 6


def test_what_is_packed_on_disk_is_not_packed_again(tmp_path, planned, monkeypatch):
    labelled(images(60)).save(tmp_path / "memory")
    monkeypatch.setattr(folders, "pack", None)
    monkeypatch.setattr(folders, "first_index", None)
    opened = pyhue.PixelMemory.open(tmp_path / "memory")
    opened.search(QUERIES)
    assert opened.explain()["vectors"] == 360


def test_segments_have_a_size(tmp_path, planned, monkeypatch):
    monkeypatch.setattr(folders, "SEGMENT_BYTES", 100 * DIM * 4)
    expected = labelled()
    expected.save(tmp_path / "memory")
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        for memory in (expected, writer):
            memory.add(*images(10))
        assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 0
        for memory in (expected, writer):
            memory.add(*images(6, 1))
        assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 0
        for memory in (expected, writer):
            memory.add(*images(2, 2))  # which do not fit
        assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 96  # written without being asked
        for memory in (expected, writer):
            memory.add(*images(30, 3))  # more than a segment
        assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 288
        assert_equal(expected, writer)
    content = json.loads((tmp_path / "memory" / "manifest.json").read_text())
    assert [segment["rows"] for segment in content["segments"]] == [96, 12, 100, 80]
    assert_equal(expected, pyhue.PixelMemory.open(tmp_path / "memory"))


@pytest.mark.parametrize("plan", [False, True])
def test_compacting_merges_small_segments(tmp_path, monkeypatch, plan):
    if plan:
        for module in (publishing, host):
            monkeypatch.setattr(module, "OPTIMIZE_FROM", 100)
    expected = labelled()
    expected.save(tmp_path / "memory")
    reader = None
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        for turn in range(5):
            for memory in (expected, writer):
                memory.add(*images(6, turn))
            writer.flush()
        reader = pyhue.PixelMemory.open(tmp_path / "memory")
        np.testing.assert_array_equal(writer.compact(), np.arange(180))
        assert_equal(expected, writer)
        assert_equal(expected, reader)  # whose files are gone
        assert reader.refresh()
        assert_equal(expected, reader)
        np.testing.assert_array_equal(writer.compact(), np.arange(180))  # nothing left to do
        assert not reader.refresh()
    names = os.listdir(tmp_path / "memory")
    assert len([name for name in names if name.startswith("segment")]) == 1


def test_compacting_leaves_full_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SEGMENT_BYTES", 60 * DIM * 4)
    labelled(images(20), images(1, 1)).save(tmp_path / "memory")
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        writer.add(*images(1, 2))
        writer.flush()
        before = set(os.listdir(tmp_path / "memory"))
        writer.compact()
        after = set(os.listdir(tmp_path / "memory"))
    assert (before - after, after - before) == (
        {"segment-3.safetensors", "segment-4.safetensors"},
        {"segment-5.safetensors"},
    )


def test_one_segment_or_twenty(tmp_path, planned):
    whole = labelled()
    whole.save(tmp_path / "twenty")
    with pyhue.PixelMemory.open(tmp_path / "twenty", "a") as writer:
        for turn in range(20):
            batch = images(20, turn)
            whole.add(*batch)
            writer.add(*batch)
            writer.flush()
        writer.optimize()
        assert writer.explain()["vectors"] == 2400
    whole.save(tmp_path / "one")
    one, twenty = (pyhue.PixelMemory.open(tmp_path / name) for name in ("one", "twenty"))
    for k in (1, 10, 2500):
        assert_equal(one, twenty, k)


def test_optimizing_keeps_what_readers_have(tmp_path, planned, monkeypatch):
    memory = labelled(images(60))
    memory.save(tmp_path / "memory")
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        before = set(os.listdir(tmp_path / "memory"))
        writer.optimize()
        after = set(os.listdir(tmp_path / "memory"))
        assert len(before) == len(after)
        assert {name.split("-")[0] for name in before - after} == {"plan", "packed"}
        with monkeypatch.context() as patch:
            patch.setattr(folders, "pack", None)
            patch.setattr(folders, "first_index", None)
            assert_equal(memory, reader)  # its packed form is gone, and was mapped when it was opened
        assert reader.refresh()
        assert_equal(memory, reader)


def test_a_saved_memory_takes_the_place_of_another(tmp_path, planned):
    labelled(images(60)).save(tmp_path / "memory")
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    reader.search(QUERIES)
    memory = labelled(images(30, 4))
    memory.save(tmp_path / "memory")
    assert_equal(memory, pyhue.PixelMemory.open(tmp_path / "memory"))
    assert_equal(labelled(images(60)), reader)
    assert reader.refresh()
    assert_equal(memory, reader)
    labelled().save(tmp_path / "memory")
    assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 0


@pytest.mark.parametrize(
    ("other", "error"),
    [
        (lambda: labelled(images(20), normalize=False), "normalize True, got False"),
        (lambda: labelled(images(20), dtype="bfloat16"), "dtype float32, got bfloat16"),
        (lambda: pyhue.PixelMemory(8), "dim 24, got 8"),
        (lambda: pyhue.VectorMemory(DIM), "kind pyhue.PixelMemory, got pyhue.VectorMemory"),
    ],
)
def test_a_reader_does_not_follow_to_another_kind_of_memory(tmp_path, planned, other, error):
    memory = labelled(images(60))
    memory.save(tmp_path / "memory")
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    other().save(tmp_path / "memory")
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(f"memory: expected a memory of {error}")):
            reader.refresh()
        assert_equal(memory, reader)


def _mapped(folder):
    """Files of a folder that this process maps, those that are gone among them."""
    with open("/proc/self/maps") as maps:
        return {line.split("/")[-1].split()[0] for line in maps if str(folder) in line}


def test_a_reader_lets_go_of_what_it_left(tmp_path, planned):
    folder = tmp_path / "memory"
    labelled(images(30)).save(folder)
    reader = pyhue.PixelMemory.open(folder)
    with pyhue.PixelMemory.open(folder, "a") as writer:
        for turn in range(5):
            writer.add(*images(4, turn))
            writer.remove(images=[turn])
            writer.compact()
            writer.optimize()
            writer.remove(images=[turn + 10])
            writer.flush()
            assert reader.refresh()
            assert_equal(reader, pyhue.PixelMemory.open(folder))
    gc.collect()
    names = {name for name in os.listdir(folder) if name.endswith(".safetensors")}
    assert _mapped(folder) | {name for name in names if name.startswith(("deleted", "plan"))} == names


def test_what_is_packed_is_mapped_when_a_reader_opens_or_follows(tmp_path, planned, monkeypatch):
    """Whatever a writer removes before the first search."""
    folder = tmp_path / "memory"
    labelled(images(30)).save(folder)
    with pyhue.PixelMemory.open(folder, "a") as writer:
        writer.add(*images(30, 1))
        writer.flush()
        reader, follower = (pyhue.PixelMemory.open(folder) for _ in range(2))
        writer.add(*images(30, 2))
        writer.flush()
        assert follower.refresh()
        writer.compact()
    monkeypatch.setattr(folders, "pack", None)
    monkeypatch.setattr(folders, "first_index", None)
    assert_equal(labelled(images(30), images(30, 1)), reader)
    assert_equal(labelled(images(30), images(30, 1), images(30, 2)), follower)


@pytest.mark.parametrize("later", [0, 10])
@pytest.mark.parametrize("size", [100, 1000])
def test_an_optimised_memory_is_cut_into_segments(tmp_path, monkeypatch, size, later):
    monkeypatch.setattr(clustering, "_SIZE", 32)
    memory = pyhue.VectorMemory(96)
    memory.add(np.random.default_rng(0).standard_normal((900, 96)) * 0.9 ** np.arange(96))
    memory.optimize()
    assert memory._on_cpu.index.pieces[0].clustered
    memory.add(np.random.default_rng(1).standard_normal((later, 96)))
    monkeypatch.setattr(folders, "SEGMENT_BYTES", size * 96 * 4)
    memory.save(tmp_path / "memory")
    content = json.loads((tmp_path / "memory" / "manifest.json").read_text())
    rows = [segment["rows"] for segment in content["segments"]]
    assert sum(rows) == 900 + later
    assert max(rows) <= size
    opened = pyhue.VectorMemory.open(tmp_path / "memory")
    queries = np.random.default_rng(2).standard_normal((9, 96)) * 0.9 ** np.arange(96)
    assert_same(memory.search(queries), opened.search(queries))
    assert all(piece.clustered for piece in opened._on_cpu.index.pieces)
    assert opened.explain()["vectors"] == 900 + later


def test_a_loaded_memory_is_one_of_its_own(tmp_path, planned):
    folder = tmp_path / "memory"
    memory = labelled(images(60))
    memory.save(folder)
    loaded = pyhue.PixelMemory.load(folder)
    assert loaded._inner()._on_cpu.index is not None
    gc.collect()
    assert _mapped(folder) == set()
    assert_equal(memory, loaded)


def test_images_without_pixels_keep_their_numbers(tmp_path):
    expected = labelled()
    expected.save(tmp_path / "memory")
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        for memory in (expected, writer):
            memory.add(np.zeros((3, 0, DIM)), [0, 1, 2])
        writer.flush()
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        for memory in (expected, writer):
            memory.add(*images(2))
    found = pyhue.PixelMemory.open(tmp_path / "memory")
    assert set(found.images) == {3, 4}
    assert_equal(expected, found)


def test_copies_of_an_opened_memory(tmp_path, planned):
    memory = labelled(images(60))
    memory.save(tmp_path / "memory")
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        copy = pickle.loads(pickle.dumps(writer))
        assert_equal(memory, copy)
        copy.add(*images(2))
        with pytest.raises(UnsupportedOperation, match="belongs to no folder"):
            copy.flush()
        writer.save(tmp_path / "other")
        writer.save(tmp_path / "file.safetensors")
        with pytest.raises(BlockingIOError):
            writer.save(tmp_path / "memory")
    for found in (
        pyhue.PixelMemory.open(tmp_path / "other"),
        pyhue.PixelMemory.load(tmp_path / "file.safetensors"),
    ):
        assert_equal(memory, found)


def test_one_writer(tmp_path):
    labelled(images(3)).save(tmp_path / "memory")
    writer = pyhue.PixelMemory.open(tmp_path / "memory", "a")
    with pytest.raises(BlockingIOError, match=r"somebody else writes.*lock"):
        pyhue.PixelMemory.open(tmp_path / "memory", "a")
    with pytest.raises(BlockingIOError):
        labelled(images(4)).save(tmp_path / "memory")
    writer.close()
    pyhue.PixelMemory.open(tmp_path / "memory", "a").close()
    dropped = pyhue.PixelMemory.open(tmp_path / "memory", "a")
    del dropped
    pyhue.PixelMemory.open(tmp_path / "memory", "a").close()


def _in_child(memory, folder, found):
    try:
        memory.add(*images(1))
        found.put("added")
    except UnsupportedOperation:
        found.put("refused")
    found.put(memory.search(QUERIES)[1])
    try:
        pyhue.PixelMemory.open(folder, "a")
        found.put("opened")
    except BlockingIOError:
        found.put("locked")


def test_a_forked_process_may_read_only(tmp_path):
    labelled(images(30)).save(tmp_path / "memory")
    context = multiprocessing.get_context("fork")
    with pyhue.PixelMemory.open(tmp_path / "memory", "a") as writer:
        found = context.Queue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads
            process = context.Process(target=_in_child, args=(writer, tmp_path / "memory", found))
            process.start()
        assert found.get(timeout=30) == "refused"
        np.testing.assert_array_equal(found.get(timeout=30), writer.search(QUERIES)[1])
        assert found.get(timeout=30) == "locked"  # the parent still holds it
        process.join()
        writer.add(*images(2))
    assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 192


def test_what_a_reader_and_a_closed_memory_refuse(tmp_path):
    memory = labelled(images(3))
    memory.save(tmp_path / "memory")
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    for call in (lambda: reader.add(*images(1)), reader.flush, reader.compact):
        with pytest.raises(UnsupportedOperation, match="memory: opened for reading"):
            call()
    for call in (memory.flush, memory.refresh, memory.close, memory.check):
        with pytest.raises(UnsupportedOperation, match="belongs to no folder"):
            call()
    with reader:
        reader.search(QUERIES)
    searched, added = lambda: reader.search(QUERIES), lambda: reader.add(*images(1))
    for call in (searched, added, reader.refresh, reader.check):
        with pytest.raises(ValueError, match="memory: closed"):
            call()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"mode": "w"}, "mode: expected 'r' or 'a', got 'w'"),
        ({"on_error": "ignore"}, "on_error: expected 'raise' or 'skip', got 'ignore'"),
        ({"mode": "a", "on_error": "skip"}, "on_error: expected 'raise' with mode 'a'"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, error):
    labelled(images(3)).save(tmp_path / "memory")
    with pytest.raises(ValueError, match=error):
        pyhue.PixelMemory.open(tmp_path / "memory", **arguments)


@pytest.mark.parametrize("mode", ["r", "a"])
def test_no_folder(tmp_path, mode):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pyhue.PixelMemory.open(tmp_path / "nowhere", mode)
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        pyhue.PixelMemory.open(tmp_path, mode)
    assert os.listdir(tmp_path) == []


def test_nobody_publishes_while_files_are_mapped(tmp_path, planned, monkeypatch):
    folder = tmp_path / "memory"
    labelled(images(30)).save(folder)
    memory = pyhue.PixelMemory.open(folder)
    opened, others = memory._inner()._folder, []
    piece = folders.Folder.piece

    def watched(self, *arguments):
        with self.busy.held(wait=False) as got:
            others.append(got)
        return piece(self, *arguments)

    monkeypatch.setattr(folders.Folder, "piece", watched)
    opened.index(opened.stored())
    assert others
    assert not any(others)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/smaps to see how files are mapped")
@pytest.mark.parametrize("larger", [False, True])
def test_of_a_folder_larger_than_memory_what_is_asked_for_is_read(tmp_path, monkeypatch, larger):
    expected = pyhue.VectorMemory(512)
    expected.add(np.random.default_rng(0).standard_normal((900, 512)) * 0.97 ** np.arange(512))
    expected.optimize()
    assert expected.explain()["row_ends"]
    expected.save(tmp_path / "memory")
    whole = os.sysconf
    pages = {"SC_PHYS_PAGES": 1} if larger else {}
    monkeypatch.setattr(os, "sysconf", lambda name: pages.get(name) or whole(name))
    opened = pyhue.VectorMemory.open(tmp_path / "memory")
    queries = np.random.default_rng(1).standard_normal((9, 512))
    assert_same(expected.search(queries), opened.search(queries))
    assert _read_at_random(tmp_path / "memory") == ({"segment", "packed"} if larger else set())


def _read_at_random(folder):
    """Kinds of files of which this process maps a part with that advice."""
    found, kind = set(), None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            kind = Path(line.split()[-1]).name.split("-")[0] if str(folder) in line else None
        elif kind and line.startswith("VmFlags:") and "rr" in line.split():
            found.add(kind)
    return found
