"""Files that are no memory: truncated, foreign, inconsistent, hostile."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
import safetensors.numpy
from families import draw
from hypothesis import given
from hypothesis import strategies as st

import pyhue


def _memory():
    memory = pyhue.PixelMemory(8)
    memory.add(draw("relu60", 20, 8).reshape(4, 5, 8), [0, 3, 6, 2])
    return memory


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "memory.safetensors"
    _memory().save(path)
    return path


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
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
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
        "bfloat16": "0",
    }
    described |= metadata or {}
    safetensors.numpy.save_file(
        {name: array for name, array in whole.items() if array is not None},
        path,
        {name: text for name, text in described.items() if text is not None},
    )


def test_a_file_written_by_hand(tmp_path):
    _write(tmp_path / "memory.safetensors")
    assert pyhue.PixelMemory.load(tmp_path / "memory.safetensors").class_counts.tolist() == [2, 1]


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
    "negative image": ({"images": np.array([0, -1, 0])}, "expected images from 0 to 1"),
    "negative pixel": ({"pixels": np.array([0, -1, 0])}, "expected pixels from 0"),
    "NaN": ({"vectors": np.full((3, 2), np.nan, np.float32)}, "expected finite vectors"),
    "Inf": ({"vectors": np.full((3, 2), np.inf, np.float32)}, "expected finite vectors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_disagree_with_themselves(tmp_path, case):
    arguments, message = WRONG[case]
    _write(tmp_path / "memory.safetensors", **arguments)
    with pytest.raises(ValueError, match=message):
        pyhue.PixelMemory.load(tmp_path / "memory.safetensors")


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
    (tmp_path / "memory.safetensors").write_bytes(FOREIGN[case])
    with pytest.raises(ValueError, match=r"memory\.safetensors: "):
        pyhue.PixelMemory.load(tmp_path / "memory.safetensors")


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    """A pickle that would leave a trace does not, and no unpickler is asked for."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "trap").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "trap.npz", vectors=np.array([Trap()], object))
    _memory().save(tmp_path / "memory.safetensors")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    for file in ("trap", "trap.npz"):
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            pyhue.PixelMemory.load(tmp_path / file)
    assert not (tmp_path / "sprung").exists()
    assert len(pyhue.PixelMemory.load(tmp_path / "memory.safetensors")) == 20
