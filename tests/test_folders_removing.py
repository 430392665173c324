"""Removing from memories in folders: the same as in memory, for everybody, and for good."""

import json
import os
import re
import shutil
import threading
import warnings
from dataclasses import replace
from io import UnsupportedOperation

import folder_states
import numpy as np
import pytest
from families import draw
from reference import assert_same
from together import in_threads

import pyhue
from pyhue._files.mapped import save_mapped
from pyhue._saved import deleted
from pyhue._saved import folder as folders
from pyhue._saved import manifest as manifests
from pyhue._saved import publish as publishing
from pyhue._saved.packed import write_plan
from pyhue._search.host import HostSearch

DIM = 24
QUERIES = draw("relu60", 9, DIM, 5)


@pytest.fixture
def planned(monkeypatch):
    folder_states.planned(monkeypatch)


def images(count, seed=0):
    maps = draw("relu60", count * 6, DIM, seed).reshape(count, 6, DIM).copy()
    maps[::7, 0] = 0  # vectors without a direction
    return maps, np.arange(count) * 3 % 7


def pair(folder, *batches):
    """A memory, and the same in a folder of a segment for each batch, opened for writing."""
    memory = pyhue.PixelMemory(DIM)
    memory.save(folder)
    opened = pyhue.PixelMemory.open(folder, "a")
    for batch in batches:
        for each in (memory, opened):
            each.add(*batch)
        opened.flush()
    return memory, opened


def assert_equal(memory, found):
    """The same, whatever is asked."""
    np.testing.assert_array_equal(found.removed, memory.removed)
    for name in ("vectors", "labels", "images", "pixels", "classes", "class_counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(memory, name))
    rng = np.random.default_rng(len(memory))
    where = {share: rng.random(len(memory)) < share for share in (0.02, 0.5)}
    last = int(memory.images[-1])
    for chosen in (
        {},
        {"where": where[0.02]},  # few: compared one by one
        {"where": where[0.5], "labels": [0, 3]},
        {"exclude": np.arange(9) % (last + 1)},
    ):
        for k in (1, 10, len(memory)):
            assert_same(memory.search(QUERIES, k, **chosen), found.search(QUERIES, k, **chosen))
        for one, other in zip(
            memory.within(QUERIES, 1.0, **chosen), found.within(QUERIES, 1.0, **chosen), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    maps, exclude = images(3, 9)[0], [0, -1, last]
    for chosen in ({}, {"exclude": exclude}, {"where": where[0.5], "exclude": exclude}):
        expected = memory.log_likelihood(maps, 4, **chosen)
        np.testing.assert_array_equal(found.log_likelihood(maps, 4, **chosen), expected)


@pytest.mark.parametrize(
    "removed",
    [
        {"rows": [0, 5, 40, 130, 200, 201]},
        {"images": [0, 3, 12, 30]},
        {"labels": [3, 99]},
        {"rows": np.arange(60, 180)},  # the whole of a segment
        {"rows": np.arange(300)},  # all
    ],
)
def test_the_same_as_in_memory(tmp_path, planned, removed):
    memory, writer = pair(tmp_path / "memory", images(10), images(20, 1), images(20, 2))
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    before = reader.search(QUERIES)
    assert memory.remove(**removed) == writer.remove(**removed) > 0
    assert writer.remove(**removed) == 0
    assert_equal(memory, writer)
    assert not reader.refresh()
    writer.flush()
    assert_same(reader.search(QUERIES), before)
    assert reader.refresh()
    reader.save(tmp_path / "copy")
    for found in (
        reader,
        writer,
        pyhue.PixelMemory.open(tmp_path / "memory"),
        pyhue.PixelMemory.load(tmp_path / "memory"),
        pyhue.PixelMemory.open(tmp_path / "copy"),
    ):
        assert_equal(memory, found)
    for each in (memory, writer):
        each.add(*images(4, 3))  # whose rows share a byte of the bits with what was removed
    assert_equal(memory, writer)
    writer.optimize()
    assert_equal(memory, writer)
    before = reader.search(QUERIES)
    numbers = memory.compact()
    np.testing.assert_array_equal(writer.compact(), numbers)
    assert_equal(memory, writer)
    assert_same(reader.search(QUERIES), before)  # by the old numbers
    assert reader.refresh()
    assert_equal(memory, reader)
    writer.close()
    assert_equal(memory, pyhue.PixelMemory.open(tmp_path / "memory"))


def test_vectors_without_labels(tmp_path, planned):
    memory = pyhue.VectorMemory(DIM)
    memory.add(draw("relu60", 100, DIM))
    memory.save(tmp_path / "memory")
    with pyhue.VectorMemory.open(tmp_path / "memory", "a") as writer:
        for each in (memory, writer):
            assert each.remove([3, 4, 99]) == 3
    for mode in ("r", "a"):
        with pyhue.VectorMemory.open(tmp_path / "memory", mode) as opened:
            np.testing.assert_array_equal(opened.removed, memory.removed)
            assert_same(opened.search(QUERIES, 100), memory.search(QUERIES, 100))
            if mode == "a":
                np.testing.assert_array_equal(opened.compact(), memory.compact())
                assert_same(opened.search(QUERIES, 100), memory.search(QUERIES, 100))


def test_what_was_added_since_can_be_removed(tmp_path):
    memory, writer = pair(tmp_path / "memory", images(3))
    for each in (memory, writer):
        each.add(*images(3, 1))
        each.remove(images=[1, 4])
    with writer:
        assert_equal(memory, writer)
    assert_equal(memory, pyhue.PixelMemory.open(tmp_path / "memory"))


def test_removing_writes_a_bit_for_each_row(tmp_path, planned):
    _, writer = pair(tmp_path / "memory", images(40), images(40, 1))
    before = set(os.listdir(tmp_path / "memory"))
    with writer:
        for rows in ([5], [6, 470]):
            writer.remove(rows)
            writer.flush()
            (added,) = set(os.listdir(tmp_path / "memory")) - before
            assert added.startswith("deleted")
            assert (tmp_path / "memory" / added).stat().st_size <= 8192 + 480 // 8
            assert before <= set(os.listdir(tmp_path / "memory"))
        content = (tmp_path / "memory" / "manifest.json").read_bytes()
        assert writer.remove([5]) == 0
        writer.flush()
        assert (tmp_path / "memory" / "manifest.json").read_bytes() == content  # nothing to do


def test_a_reader_does_not_remove(tmp_path):
    _, writer = pair(tmp_path / "memory", images(3))
    writer.close()
    reader = pyhue.PixelMemory.open(tmp_path / "memory")
    for call in (lambda: reader.remove([0]), reader.compact):
        with pytest.raises(UnsupportedOperation, match="memory: opened for reading"):
            call()
    assert not reader.removed.any()
    pyhue.VectorMemory(DIM).save(tmp_path / "vectors")
    with pytest.raises(UnsupportedOperation, match="vectors: opened for reading"):
        pyhue.VectorMemory.open(tmp_path / "vectors").remove([])
    for call in (lambda: writer.remove([0]), writer.compact):
        with pytest.raises(ValueError, match="memory: closed"):
            call()


def test_compacting_keeps_segments_that_lost_nothing(tmp_path, planned, monkeypatch):
    monkeypatch.setattr(folders, "SEGMENT_BYTES", 60 * DIM * 4)
    memory, writer = pair(tmp_path / "memory", images(10), images(10, 1), images(10, 2))
    names = {name for name in os.listdir(tmp_path / "memory") if name.startswith(("segment", "packed"))}
    with writer:
        for each in (memory, writer):
            each.remove(images=[12])
            each.compact()
        left = names & set(os.listdir(tmp_path / "memory"))
        assert len(left) == len(names) // 3 * 2
        assert_equal(memory, writer)


@pytest.mark.parametrize("vectors_alone", [False, True])
def test_compacting_tells_how_far_it_is(tmp_path, planned, monkeypatch, vectors_alone):
    memory = pyhue.VectorMemory(DIM) if vectors_alone else pyhue.PixelMemory(DIM)
    memory.save(tmp_path / "memory")
    monkeypatch.setattr(folders, "SEGMENT_BYTES", 60 * DIM * 4)
    told = []
    with memory.open(tmp_path / "memory", "a") as writer:
        for turn, count in enumerate((10, 20, 2, 3, 10)):
            maps, labels = images(count, turn)
            for each in (memory, writer):
                each.add(maps.reshape(-1, DIM)) if vectors_alone else each.add(maps, labels)
            writer.flush()
        for each in (memory, writer):
            each.remove(np.arange(60, 140))
        numbers = memory.compact(told.append)
        assert told == []  # it belongs to no folder
        np.testing.assert_array_equal(writer.compact(told.append), numbers)
        assert told == [60, 60, 10, 60]  # as they were, the rest in two, as they were
        assert sum(told) == len(memory)
        writer.compact(told.append)  # nothing is left to do
        assert told == [60, 60, 10, 60] * 2
        writer.remove(np.arange(len(writer)))
        writer.compact(told.append)
        assert len(told) == 8  # nothing was kept


def test_a_search_between_compacting_and_its_packed_form(tmp_path, planned, monkeypatch):
    memory, writer = pair(tmp_path / "memory", images(20), images(20, 1))
    writer.search(QUERIES)
    monkeypatch.setattr(HostSearch, "replace", lambda *_: None)  # has not come yet
    for each in (memory, writer):
        each.remove(images=[3, 30])
        each.compact()
    assert_equal(memory, writer)


@pytest.mark.parametrize("compacting", [False, True])
def test_removing_while_others_search(tmp_path, planned, compacting):
    """Vector i has the value i, so the nearest to 0 are the first that are left at one moment."""
    memory = pyhue.VectorMemory(8, normalize=False)
    memory.add(np.repeat(np.arange(400.0)[:, None], 8, axis=1))
    memory.save(tmp_path / "memory")
    done, wrong = threading.Event(), []
    writer = pyhue.VectorMemory.open(tmp_path / "memory", "a")
    reader = pyhue.VectorMemory.open(tmp_path / "memory")

    def write():
        try:
            first = 0
            for i in range(40):
                writer.remove(np.arange(first, first + 3))
                first += 3
                if i % 3 == 2:
                    writer.flush()
                if compacting and i % 4 == 3:
                    writer.compact()
                    first = 0
                writer.add(np.full((1, 8), 400.0 + i))
        finally:
            done.set()

    def read(memory):
        last = 0.0
        while not done.is_set():
            if memory is reader:
                memory.refresh()
            values = np.sqrt(memory.search(np.zeros((1, 8)), 5).distances[0] / 8)
            if values[0] % 3 or values[0] < last or (np.diff(values.round(3)) != 1).any():
                wrong.append(values)
            last = values[0]

    in_threads([write, lambda: read(writer), lambda: read(reader)])
    assert not wrong
    writer.close()
    assert (len(pyhue.VectorMemory.open(tmp_path / "memory")) == 400 + 40 - 120) == compacting


# ---- what is damaged ----


@pytest.fixture
def damaged(tmp_path):
    """A folder, the file that tells what was removed, and the memory."""
    memory, writer = pair(tmp_path / "memory", images(5), images(5, 1))
    with writer:
        for each in (memory, writer):
            each.remove(images=[1, 7])
    (name,) = (name for name in os.listdir(tmp_path / "memory") if name.startswith("deleted"))
    return tmp_path / "memory", tmp_path / "memory" / name, memory


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[4096] ^= 0b01000001  # row 0 for row 6
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [_flipped, os.unlink, lambda path: path.write_bytes(b"x"), lambda path: os.truncate(path, 4099)]
)
def test_a_damaged_file_of_removed_rows_is_named(damaged, damage):
    folder, path, memory = damaged
    damage(path)
    for mode in ("r", "a"):
        with pytest.raises((ValueError, OSError), match=path.name):
            pyhue.PixelMemory.open(folder, mode)
    with pytest.warns(RuntimeWarning, match=path.name):
        opened = pyhue.PixelMemory.open(folder, on_error="skip")
    assert not opened.removed.any()
    np.testing.assert_array_equal(opened.vectors, memory.vectors)
    (wrong,) = opened.check()
    assert path.name in wrong


@pytest.mark.parametrize(
    ("metadata", "arrays", "error"),
    [
        (deleted._FORMAT, {"removed": np.zeros(2, np.int64)}, "a bit for each of 60 rows, got I64"),
        (deleted._FORMAT, {"removed": np.zeros((2, 2), np.uint8)}, "a bit for each of 60 rows"),
        (deleted._FORMAT, {"removed": np.zeros(9, np.uint8)}, "a bit for each of 60 rows"),
        (deleted._FORMAT, {"other": np.zeros(2, np.uint8)}, "a bit for each of 60 rows"),
        ({"format": "other"}, {"removed": np.zeros(2, np.uint8)}, "expected {'format': 'pyhue.deleted'"),
    ],
)
def test_files_that_tell_nothing_of_removed_rows(damaged, metadata, arrays, error):
    folder, path, _ = damaged
    entry = manifests.Entry(manifests.read(folder).deleted.number, 0, save_mapped(path, metadata, arrays))
    manifests.write(folder, replace(manifests.read(folder), deleted=entry))
    with pytest.raises(ValueError, match=re.escape(error)):
        pyhue.PixelMemory.open(folder)


def test_check_reads_removed_rows(damaged):
    folder, path, _ = damaged
    opened = pyhue.PixelMemory.open(folder)
    assert opened.check() == []
    _flipped(path)
    (wrong,) = opened.check()
    assert path.name in wrong


def test_removed_rows_of_a_segment_that_is_left_out(damaged):
    folder, _, memory = damaged
    os.unlink(folder / "segment-1.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        opened = pyhue.PixelMemory.open(folder, on_error="skip")
    np.testing.assert_array_equal(opened.removed, memory.removed)
    rest = pyhue.PixelMemory(DIM)
    kept = np.setdiff1d(np.arange(5), [7 - 5])
    rest.add(*(part[kept] for part in images(5, 1)))
    np.testing.assert_array_equal(
        opened.class_counts[np.isin(opened.classes, rest.classes)], rest.class_counts
    )
    np.testing.assert_array_equal(opened.search(QUERIES).distances, rest.search(QUERIES).distances)


def test_segments_of_equal_size_that_were_swapped(tmp_path, planned):
    memory, writer = pair(tmp_path / "memory", images(10), images(10, 1), images(10, 2))
    writer.close()
    packed = sorted(name for name in os.listdir(tmp_path / "memory") if name.startswith("packed"))
    assert len({(tmp_path / "memory" / name).stat().st_size for name in packed[-2:]}) == 1
    first, last = (tmp_path / "memory" / name for name in packed[-2:])
    shutil.copy(first, last)
    with pytest.warns(RuntimeWarning, match=f"packed anew.*{last.name}"):
        assert_equal(memory, pyhue.PixelMemory.open(tmp_path / "memory"))


# ---- numbers of files ----


class _Named:
    """What every number of a file was given to; fails where one is given to another."""

    def __init__(self, folder):
        self.folder, self.given = folder, {}

    def look(self):
        content = json.loads((self.folder / "manifest.json").read_text())
        for kind in ("plan", "deleted", "segments"):
            entries = content[kind] if kind == "segments" else [content[kind]]
            for entry in filter(None, entries):
                file = kind, entry["rows"], entry["checksum"]
                assert self.given.setdefault(entry["number"], file) == file
                assert entry["number"] < content["next"]


def test_no_number_of_a_file_is_given_twice(tmp_path, planned, monkeypatch):
    folder = tmp_path / "memory"
    memory, writer = pair(folder, images(10))
    writer.close()
    named, rng = _Named(folder), np.random.default_rng(0)
    for turn in range(40):
        with pyhue.PixelMemory.open(folder, "a") as writer:
            writer.add(*images(int(rng.integers(1, 4)), turn))
            writer.remove(rng.choice(np.flatnonzero(~writer.removed), 3))
            if turn % 5 == 4:  # everything but the manifest is written
                with monkeypatch.context() as patch:
                    patch.setattr(manifests, "write", _full)
                    with pytest.raises(OSError, match="No space"):
                        writer.optimize()
            (writer.flush, writer.compact, writer.optimize, lambda: None)[turn % 4]()
            named.look()
        named.look()
    assert {kind for kind, *_ in named.given.values()} == {"plan", "deleted", "segments"}
    saved = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text("{}")
    memory.save(folder)  # in the place of one that cannot be read, and which a reader may still have
    named.look()
    content = json.loads((folder / "manifest.json").read_text())
    for number in ("next", "epoch", "generation"):
        assert content[number] > saved[number]


def test_a_plan_that_failed_leaves_nothing_to_the_next(tmp_path, planned, monkeypatch):
    memory, writer = pair(tmp_path / "memory", images(20))
    for each in (memory, writer):
        each.add(*images(1, 3))
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "write", _full)
        with pytest.raises(OSError, match="No space"):
            writer.optimize()
    seen = []
    monkeypatch.setattr(publishing, "write_plan", lambda *arguments: seen.append(1) or write_plan(*arguments))
    for each in (memory, writer):
        each.add(np.flip(images(200, 7)[0], 2), np.zeros(200, int))
    writer.optimize()
    assert seen
    assert_equal(memory, writer)
    assert writer.check() == []


def _full(*_):
    raise OSError(28, "No space left on device")
