"""Memories on disk: whole or refused, old or new, never in between."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from families import draw
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_same

import pyhue


def _memory(normalize=True, images=4):
    memory = pyhue.PixelMemory(8, normalize=normalize)
    memory.add(draw("relu60", images * 5, 8).reshape(images, 5, 8), np.arange(images) * 3 % 7)
    return memory


def _assert_equal(memory, other):
    assert repr(memory) == repr(other)
    for name in ("vectors", "labels", "images", "pixels", "class_counts"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(other, name))
        assert getattr(memory, name).dtype == getattr(other, name).dtype


@pytest.fixture
def path(tmp_path):
    """A saved memory, alone in its folder."""
    path = tmp_path / "memory.safetensors"
    _memory().save(path)
    return path


@pytest.mark.parametrize("normalize", [True, False])
def test_round_trip(tmp_path, normalize, isa):
    memory, path = _memory(normalize), tmp_path / "memory.safetensors"
    memory.save(path)
    loaded = pyhue.PixelMemory.load(path)
    _assert_equal(memory, loaded)
    queries = draw("relu60", 9, 8, seed=1)
    assert_same(loaded.search(queries), memory.search(queries))
    for each in (memory, loaded):
        each.add(np.ones((2, 5, 8)), [1, 9])
    _assert_equal(memory, loaded)
    assert loaded.images[-1] == 5
    assert_same(loaded.search(queries), memory.search(queries))


@given(
    dim=st.sampled_from([1, 3, 4096]),
    labels=st.lists(st.sampled_from([0, 1, 5, 1000]), max_size=4),
    pixels=st.integers(0, 3),
)
def test_round_trip_of_any_size(tmp_path_factory, dim, labels, pixels):
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    memory = pyhue.PixelMemory(dim)
    memory.add(np.ones((len(labels), pixels, dim)), np.array(labels, int))
    memory.save(path)
    _assert_equal(memory, pyhue.PixelMemory.load(path))


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_kinds_of_path(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("memory.safetensors", str(tmp_path / "memory.safetensors")):
        _memory().save(kind(path))
        _assert_equal(_memory(), pyhue.PixelMemory.load(kind(path)))
    assert os.listdir(tmp_path) == ["memory.safetensors"]


def test_any_safetensors_reader_reads_it(path):
    arrays = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(arrays["vectors"], _memory().vectors)
    assert {name: str(a.dtype) for name, a in arrays.items()} == {
        "vectors": "float32",
        "labels": "int64",
        "images": "int64",
        "pixels": "int64",
    }


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        _memory().save(tmp_path / "memory.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "memory.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "replace"), ("os", "fsync"), ("os", "fchmod"), ("pyhue._files.tensors", "header_bytes")],
)
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_error_while_writing_leaves_the_old_file(path, monkeypatch, module, name, error):
    before = path.read_bytes()

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{name}", fail)
        with pytest.raises(type(error)):
            _memory(images=6).save(path)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before
    _memory(images=6).save(path)
    assert len(pyhue.PixelMemory.load(path)) == 30


def test_the_file_is_synced_before_it_is_renamed(path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (done.append(name), real(*a))[1])
    _memory().save(path)
    assert done == ["fsync", "replace", "fsync"]


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError):
        _memory().save(tmp_path / "nowhere" / "memory.safetensors")
    (tmp_path / "folder" / "other").touch()
    with pytest.raises(FileExistsError, match="something else"):
        _memory().save(tmp_path / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        _memory().save(tmp_path / "file" / "memory.safetensors")
    with pytest.raises(TypeError):
        _memory().save(None)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        pyhue.PixelMemory.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="manifest"):
        pyhue.PixelMemory.load(tmp_path)
    with pytest.raises(TypeError):
        pyhue.PixelMemory.load(None)
