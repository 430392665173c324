"""Memories on disk: whole or refused, old or new, never in between."""

import json
import os
import pickle
import stat
import struct
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
    memory, path = _memory(normalize), tmp_path / "memory"
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
    path = tmp_path_factory.mktemp("memory") / "memory"
    memory = pyhue.PixelMemory(dim)
    memory.add(np.ones((len(labels), pixels, dim)), np.array(labels, int))
    memory.save(path)
    _assert_equal(memory, pyhue.PixelMemory.load(path))


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_kinds_of_path(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("memory", str(tmp_path / "memory")):
        _memory().save(kind(path))
        _assert_equal(_memory(), pyhue.PixelMemory.load(kind(path)))
    assert os.listdir(tmp_path) == ["memory"]


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
        _memory().save(tmp_path / "memory")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "memory").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "replace"), ("os", "fsync"), ("os", "chmod"), ("safetensors.numpy", "save_file")],
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


def test_an_error_of_safetensors_is_an_os_error(path, monkeypatch):
    def fail(*_):
        raise safetensors.SafetensorError("no space left")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="cannot be written: no space left"):
        _memory().save(path)
    assert os.listdir(path.parent) == [path.name]


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
        _memory().save(tmp_path / "nowhere" / "memory")
    with pytest.raises(OSError):
        _memory().save(tmp_path / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        _memory().save(tmp_path / "file" / "memory")
    with pytest.raises(TypeError):
        _memory().save(None)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        pyhue.PixelMemory.load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        pyhue.PixelMemory.load(tmp_path)
    with pytest.raises(TypeError):
        pyhue.PixelMemory.load(None)


def test_truncated_at_every_length(path):
    whole = path.read_bytes()
    lengths = {*range(0, 40), *range(40, len(whole), 37), len(whole) - 1}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"memory\.safetensors: not a whole safetensors file"):
            pyhue.PixelMemory.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        pyhue.PixelMemory.load(path)


@given(data=st.data())
def test_corruption_never_gives_anything_but_a_memory_or_a_value_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("memory") / "memory"
    _memory().save(path)
    content = bytearray(path.read_bytes())
    (header,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 7 + header))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        memory = pyhue.PixelMemory.load(path)
    except ValueError:
        return
    assert len(memory) == len(memory.labels) == 20
    memory.search(np.ones(memory.dim))


def _write(path, metadata=None, **arrays):
    """A file like a saved one, but for what is given; None leaves a part out."""
    whole = {
        "vectors": np.ones((3, 2), np.float32),
        "labels": np.array([0, 0, 1]),
        "images": np.array([0, 0, 1]),
        "pixels": np.array([0, 1, 0]),
    } | arrays
    described = {
        "format": "pyhue.PixelMemory",
        "version": "1",
        "dim": "2",
        "normalize": "0",
        "num_images": "2",
    }
    described |= metadata or {}
    safetensors.numpy.save_file(
        {name: array for name, array in whole.items() if array is not None},
        path,
        {name: text for name, text in described.items() if text is not None},
    )


def test_a_file_written_by_hand(tmp_path):
    _write(tmp_path / "memory")
    assert pyhue.PixelMemory.load(tmp_path / "memory").class_counts.tolist() == [2, 1]


WRONG = {
    "format": ({"metadata": {"format": "other"}}, "expected a file of format pyhue.PixelMemory, got other"),
    "no format": ({"metadata": {"format": None}}, "got None"),
    "version": ({"metadata": {"version": "2"}}, "expected version 1, got 2"),
    "no version": ({"metadata": {"version": None}}, "expected version 1, got None"),
    "no dim": ({"metadata": {"dim": None}}, "expected whole numbers for dim, normalize, num_images"),
    "dim in words": ({"metadata": {"dim": "two"}}, "expected whole numbers"),
    "dim differs": ({"metadata": {"dim": "3"}}, r"expected vectors of F32 \[3, 3\], got F32 \[3, 2\]"),
    "dim 0": ({"metadata": {"dim": "0"}, "vectors": np.ones((3, 0), np.float32)}, "dim: expected at least 1"),
    "dim too large": (
        {"metadata": {"dim": "5000"}, "vectors": np.ones((3, 5000), np.float32)},
        "at most 4096",
    ),
    "negative number": ({"metadata": {"num_images": "-1"}}, "expected non-negative numbers"),
    "too few images": ({"metadata": {"num_images": "1"}}, "expected images from 0 to 0, got 0 to 1"),
    "no vectors": ({"vectors": None}, "expected the arrays vectors, labels, images, pixels, got"),
    "no labels": ({"labels": None}, "expected the arrays"),
    "another array": ({"more": np.ones(3)}, "expected the arrays"),
    "float64 vectors": ({"vectors": np.ones((3, 2))}, r"expected vectors of F32 \[3, 2\], got F64"),
    "float16 vectors": ({"vectors": np.ones((3, 2), np.float16)}, "got F16"),
    "flat vectors": ({"vectors": np.ones(3, np.float32)}, r"expected vectors of F32 \[3, 2\], got F32 \[3\]"),
    "scalar vectors": ({"vectors": np.ones((), np.float32)}, "expected vectors"),
    "int32 labels": ({"labels": np.zeros(3, np.int32)}, r"expected labels of I64 \[3\], got I32"),
    "too many labels": ({"labels": np.zeros(4, int)}, r"expected labels of I64 \[3\], got I64 \[4\]"),
    "labels in a column": (
        {"labels": np.zeros((3, 1), int)},
        r"expected labels of I64 \[3\], got I64 \[3, 1\]",
    ),
    "too few pixels": ({"pixels": np.zeros(2, int)}, "expected pixels"),
    "negative label": ({"labels": np.array([0, -1, 0])}, "expected labels from 0 to 2147483647, got -1 to 0"),
    "huge label": ({"labels": np.array([0, 2**62, 0])}, "expected labels from 0 to 2147483647"),
    "negative image": ({"images": np.array([0, -1, 0])}, "expected images from 0 to 1"),
    "negative pixel": ({"pixels": np.array([0, -1, 0])}, "expected pixels from 0"),
    "NaN": ({"vectors": np.full((3, 2), np.nan, np.float32)}, "expected finite vectors"),
    "Inf": ({"vectors": np.full((3, 2), np.inf, np.float32)}, "expected finite vectors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_disagree_with_themselves(tmp_path, case):
    arguments, message = WRONG[case]
    _write(tmp_path / "memory", **arguments)
    with pytest.raises(ValueError, match=message):
        pyhue.PixelMemory.load(tmp_path / "memory")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "U8"])
def test_dtypes_that_numpy_does_not_have(path, dtype):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    shape = {"BF16": [40, 8], "U8": [80, 8]}.get(dtype, [80, 8])
    header["vectors"] |= {"dtype": dtype, "shape": shape}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(ValueError, match=f"got {dtype}"):
        pyhue.PixelMemory.load(path)


FOREIGN = {
    "nothing": b"",
    "zeros": bytes(1000),
    "text": b"labels,vectors\n0,1\n" * 50,
    "not UTF-8": struct.pack("<Q", 4) + b'{"\xff\xfe',
    "metadata not UTF-8": struct.pack("<Q", 36) + b'{"__metadata__":{"format":"\xff\xfe\xfd\xfc"}}'.ljust(36),
    "garbage": bytes(range(256)) * 20,
    "another safetensors file": safetensors.numpy.save({"weight": np.ones(3)}),
    "pickle": pickle.dumps({"vectors": np.ones((3, 2), np.float32)}),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files(tmp_path, case):
    (tmp_path / "memory").write_bytes(FOREIGN[case])
    with pytest.raises(ValueError, match="memory: "):
        pyhue.PixelMemory.load(tmp_path / "memory")


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    """A pickle that would leave a trace does not, and no unpickler is asked for."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "trap").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "trap.npz", vectors=np.array([Trap()], object))
    _memory().save(tmp_path / "memory")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    for file in ("trap", "trap.npz"):
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            pyhue.PixelMemory.load(tmp_path / file)
    assert not (tmp_path / "sprung").exists()
    assert len(pyhue.PixelMemory.load(tmp_path / "memory")) == 20
