"""Where an opened folder is: processes that go elsewhere, folders and links that move, ends of a memory."""

import copy
import gc
import os
import pickle
import warnings

import folder_states
import numpy as np
import pytest
from families import draw

import pyhue
from pyhue._files import lock as locks
from pyhue._saved import folder as folders
from pyhue._saved import manifest as manifests
from pyhue._saved import publish as publishing
from pyhue._saved.folder import Folder

DIM = 16
QUERIES = draw("relu60", 4, DIM, 9)
KINDS = ["vectors", "pixels"]


def saved(path, count, kind="vectors"):
    """A memory in a folder."""
    memory = (pyhue.VectorMemory if kind == "vectors" else pyhue.PixelMemory)(DIM)
    added(memory, count)
    memory.save(path)
    return memory


def added(memory, count, seed=1):
    vectors = draw("relu60", count, DIM, seed)
    memory.add(vectors) if isinstance(memory, pyhue.VectorMemory) else memory.add(
        vectors[:, None], np.zeros(count, int)
    )


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_relative_path_is_of_the_place_it_was_given_in(tmp_path, monkeypatch):
    for name, count in (("here", 20), ("there", 30)):
        (tmp_path / name).mkdir()
        saved(tmp_path / name / "memory", count)
    before = content(tmp_path / "there" / "memory")
    monkeypatch.chdir(tmp_path / "here")
    reader = pyhue.VectorMemory.open("memory")
    writer = pyhue.VectorMemory.open("memory", "a")
    monkeypatch.chdir(tmp_path / "there")
    added(writer, 5)
    writer.flush()
    assert reader.refresh()
    assert len(reader) == 25
    assert writer.check() == []
    writer.close()
    assert content(tmp_path / "there" / "memory") == before
    assert len(pyhue.VectorMemory.open(tmp_path / "here" / "memory")) == 25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["flush", "compact", "optimize", "check"])
def test_a_writer_whose_folder_was_moved_leaves_the_one_in_its_place_alone(tmp_path, kind, what):
    folder, moved = tmp_path / "memory", tmp_path / "moved"
    saved(folder, 20, kind)
    writer = type(saved(tmp_path / "other", 30, kind)).open(folder, "a")
    added(writer, 5)
    writer.remove([3])
    folder.rename(moved)
    (tmp_path / "other").rename(folder)
    before = content(folder), content(moved)
    with pytest.raises(FileNotFoundError, match=r"it was moved, and another is in its place.*memory"):
        getattr(writer, what)()
    assert (content(folder), content(moved)) == before
    assert len(writer) == 25
    folder.rename(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="memory"):
        writer.flush()
    moved.rename(folder)
    writer.close()
    found = type(writer).open(folder)
    assert len(found) == 25
    assert found.removed.sum() == 1


@pytest.mark.filterwarnings("ignore:packed anew")
@pytest.mark.parametrize("what", ["flush", "compact", "optimize"])
@pytest.mark.parametrize(
    ("place", "step"),
    [(publishing, "write_segment"), (publishing, "pack"), (Folder, "stored"), (manifests, "write")],
)
def test_a_folder_that_is_moved_while_it_is_written(tmp_path, monkeypatch, place, step, what):
    """Several segments, whose numbers the other one has, too."""
    folder_states.planned(monkeypatch)
    monkeypatch.setattr(folders, "SEGMENT_BYTES", 20 * DIM * 4)
    folder, other = tmp_path / "memory", tmp_path / "other"
    saved(folder, 60)
    with saved(other, 60).open(other, "a") as writer:
        for turn in range(4):
            added(writer, 20, turn)
            writer.remove([turn])
            writer.flush()
    (other / "segment-99.safetensors").write_bytes(b"somebody's")
    before = content(other)
    done = getattr(place, step)

    def moved(*arguments):
        found = done(*arguments)
        folder.rename(tmp_path / "moved")
        other.rename(folder)
        return found

    writer = pyhue.VectorMemory.open(folder, "a")
    writer.remove([0])
    if what != "compact":
        monkeypatch.setattr(folders, "SEGMENT_BYTES", 1 << 20)
        added(writer, 70, 9)
        monkeypatch.setattr(folders, "SEGMENT_BYTES", 20 * DIM * 4)
    with monkeypatch.context() as patch:
        patch.setattr(place, step, moved)
        try:
            getattr(writer, what)()
        except (OSError, ValueError):
            pass
        else:
            assert step == "write"  # all was written before
    assert content(folder) == before
    folder.rename(other)
    (tmp_path / "moved").rename(folder)
    writer.close()
    assert pyhue.VectorMemory.open(other).check() == []
    assert pyhue.VectorMemory.open(folder).check() == []


@pytest.mark.filterwarnings("ignore:packed anew")
@pytest.mark.parametrize("what", ["search", "check"])
def test_what_is_packed_anew_is_not_written_to_another_folder(tmp_path, monkeypatch, what):
    folder_states.planned(monkeypatch)
    folder, other = tmp_path / "memory", tmp_path / "other"
    for path in (folder, other):
        saved(path, 60)
        for packed in path.glob("packed-*"):
            packed.write_bytes(packed.read_bytes()[:-1])
    writer = pyhue.VectorMemory.open(folder, "a")
    folder.rename(tmp_path / "moved")
    other.rename(folder)
    before = content(folder)
    if what == "check":
        with pytest.raises(FileNotFoundError, match="another is in its place"):
            writer.check()
    else:
        writer.search(QUERIES)
    assert content(folder) == before
    folder.rename(other)
    (tmp_path / "moved").rename(folder)
    writer.close()


def test_a_writer_stays_where_a_link_led(tmp_path):
    saved(tmp_path / "first", 20)
    saved(tmp_path / "second", 30)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "first")
    reader = pyhue.VectorMemory.open(link)
    with pyhue.VectorMemory.open(link, "a") as writer:
        link.unlink()
        link.symlink_to(tmp_path / "second")
        before = content(tmp_path / "second")
        added(writer, 5)
    assert content(tmp_path / "second") == before
    assert len(pyhue.VectorMemory.open(tmp_path / "first")) == 25
    assert reader.refresh()  # and a reader goes where it leads
    assert len(reader) == 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [True, False])
def test_what_was_left_out_is_not_saved_as_if_it_were_something(tmp_path, kind, normalize):
    folder = tmp_path / "memory"
    memory = (pyhue.VectorMemory if kind == "vectors" else pyhue.PixelMemory)(DIM, normalize=normalize)
    memory.save(folder)
    with type(memory).open(folder, "a") as writer:
        for turn in range(3):
            added(writer, 9, turn)
            writer.flush()
    (segment,) = folder.glob("segment-3*")
    segment.unlink()
    with pytest.warns(RuntimeWarning, match="left out"):
        reader = type(memory).open(folder, on_error="skip")
    for path in (folder, tmp_path / "new", tmp_path / "new.safetensors"):
        with pytest.raises(ValueError, match=f"memory: without a file of {folder}, whose content would be"):
            reader.save(path)
    for copied in (copy.copy, pickle.dumps):
        with pytest.raises(ValueError, match="memory: without a file of"):
            copied(reader)
    assert sorted(os.listdir(tmp_path)) == ["memory"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_lock_that_cannot_be_opened_is_only_an_error(tmp_path, monkeypatch):
    def refused(*arguments):
        raise PermissionError(13, "refused", str(arguments[0]))

    monkeypatch.setattr(locks.os, "open", refused)
    with pytest.raises(PermissionError, match="refused"):
        locks.FileLock(tmp_path / "lock")
    gc.collect()


def test_what_was_not_written_is_told_when_a_writer_is_dropped(tmp_path):
    folder = tmp_path / "memory"
    saved(folder, 20)
    for change in (lambda writer: added(writer, 1), lambda writer: writer.remove([0]), None):
        writer = pyhue.VectorMemory.open(folder, "a")
        if change:
            change(writer)
            with pytest.warns(RuntimeWarning, match=f"{folder}: a memory was neither flushed nor closed"):
                del writer
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            writer = None
            gc.collect()
    assert len(pyhue.VectorMemory.open(folder)) == 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["closed", "abandoned"])
def test_a_closed_memory_is_of_no_use_and_can_be_closed_again(tmp_path, kind, how):
    memory = type(saved(tmp_path / "memory", 20, kind)).open(tmp_path / "memory", "a")
    if how == "closed":
        memory.close()
        memory.close()
    else:
        memory._abandon(list)
    entered = memory.__enter__
    vectors = memory if kind == "vectors" else memory._memory
    for call in (
        entered,
        lambda: vectors.vectors,
        lambda: memory.removed,
        memory.explain,
        lambda: memory.save(tmp_path / "new"),
        lambda: memory.save(tmp_path / "new.safetensors"),
    ):
        with pytest.raises(ValueError, match="memory: closed"):
            call()
    assert "20 vectors" in repr(memory)
    assert os.listdir(tmp_path) == ["memory"]


def test_a_memory_is_saved_where_a_link_led(tmp_path, monkeypatch):
    link = tmp_path / "link"
    saved(tmp_path / "first", 20)
    saved(tmp_path / "second", 30)
    link.symlink_to(tmp_path / "first")
    before, following = content(tmp_path / "second"), folders._following

    def switched(*arguments):
        link.unlink()
        link.symlink_to(tmp_path / "second")
        return following(*arguments)

    monkeypatch.setattr(folders, "_following", switched)
    saved(link, 40)
    assert content(tmp_path / "second") == before
    assert len(pyhue.VectorMemory.open(tmp_path / "first")) == 40


@pytest.mark.parametrize("mode", ["r", "a"])
def test_links_in_a_circle(tmp_path, mode):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        pyhue.VectorMemory.open(tmp_path / "one", mode)


def test_who_removes_the_lock_is_told_of_it(tmp_path):
    saved(tmp_path / "memory", 20)
    writer = pyhue.VectorMemory.open(tmp_path / "memory", "a")
    added(writer, 5)
    for change in ((tmp_path / "memory" / "lock").unlink, (tmp_path / "memory" / "lock").touch):
        change()
        with pytest.raises(FileNotFoundError, match=r"it was removed, and others may write here.*lock"):
            writer.flush()
    writer.save(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="lock"):
        writer.close()
    assert len(pyhue.VectorMemory.open(tmp_path / "memory")) == 20
    assert len(pyhue.VectorMemory.open(tmp_path / "elsewhere")) == 25


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_drops_what_is_its_parents(tmp_path):
    saved(tmp_path / "memory", 20)
    with pyhue.VectorMemory.open(tmp_path / "memory", "a") as writer:
        added(writer, 5)
        child = os.fork()
        if not child:
            with warnings.catch_warnings(record=True) as told:
                writer.__del__()
            os._exit(len(told))
        assert os.waitpid(child, 0)[1] == 0


def test_an_image_without_pixels_is_something_to_write(tmp_path):
    pyhue.PixelMemory(DIM).save(tmp_path / "memory")
    writer = pyhue.PixelMemory.open(tmp_path / "memory", "a")
    writer.add(np.empty((1, 0, DIM), np.float32), [0])
    with pytest.warns(RuntimeWarning, match="neither flushed nor closed"):
        del writer


def test_an_opened_folder_tells_how_it_is_packed_before_it_is_searched(tmp_path, monkeypatch):
    folder_states.planned(monkeypatch)
    saved(tmp_path / "memory", 60)
    saved(tmp_path / "small", 20)
    opened = pyhue.VectorMemory.open(tmp_path / "memory")
    explained = opened.explain()
    opened.search(QUERIES)
    assert explained["gf_eq"] > 0
    assert explained.items() <= opened.explain().items()
    assert pyhue.VectorMemory.open(tmp_path / "small").explain() == {}


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_file_is_no_folder(tmp_path, mode):
    memory = saved(tmp_path / "memory", 20)
    memory.save(tmp_path / "memory.safetensors")
    with pytest.raises(NotADirectoryError, match=r"a file, not a folder; `load`.*memory\.safetensors"):
        pyhue.VectorMemory.open(tmp_path / "memory.safetensors", mode)
