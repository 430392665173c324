"""Every function and command that writes a file: through links, with long names, with errors that name it."""

import ast
import errno
import json
import os
import signal
import stat
from pathlib import Path

import numpy as np
import pytest

import pyhue
from pyhue._files.atomic import write_atomically
from pyhue._files.resumable import ResumableFile
from pyhue._files.tables import write_csv
from pyhue._files.tensors import open_tensors, save_tensors
from pyhue._saved.memory import PIXELS, VECTORS
from pyhue.memory import _described

PACKAGE = Path(pyhue.__file__).parent


def save_memory(path):
    memory = pyhue.PixelMemory(4)
    memory.add(np.random.default_rng(0).random((3, 2, 4)), [0, 1, 1])
    memory._memory._save(path, PIXELS, _described)  # as `save` does where the name ends in .safetensors


def save_vectors(path):
    memory = pyhue.VectorMemory(4)
    memory.add(np.random.default_rng(0).random((3, 4)))
    memory._save(path, VECTORS, lambda _: ({}, {}))


def save_resumable(path):
    file = ResumableFile(path, {"from": "here"}, b"head", 4)
    for piece in (b"ab", b"cd")[file.done // 2 :]:
        file.append(piece)
    file.finish()


REPLACING = {
    "write_atomically": lambda path: write_atomically(path, "text"),
    "write_csv": lambda path: write_csv(path, ("a", "b"), [(1, None)]),
    "save_tensors": lambda path: save_tensors(path, {}, {"a": np.arange(3)}),
    "PixelMemory.save": save_memory,
    "VectorMemory.save": save_vectors,
}
WRITERS = REPLACING | {"ResumableFile": save_resumable}
every_writer = pytest.mark.parametrize("writer", WRITERS)
#: Where files are written; pictures and checkpoints to a buffer, TensorBoard's events to a file that grows.
WRITES = {
    "_cli/memory.py": {"shutil.rmtree"},  # of a folder that the same command made, and did not finish
    "_figures.py": {"savefig"},
    "_files/atomic.py": {"open", "os.replace"},
    "_files/lock.py": {"os.open"},  # of an empty file
    "_files/resumable.py": {"open", "os.replace"},
    "training/checkpoint.py": {"torch.save"},
    "training/events.py": {"SummaryWriter"},
}
_WRITING = {
    "write_text",
    "write_bytes",
    "savefig",
    "imsave",
    "save_file",
    "tofile",
    "SummaryWriter",
    "memmap",
}
_MODULES = {"os": ("open", "replace", "rename"), "np": ("save", "savez", "savetxt"), "torch": ("save",)}


def writing_calls(source):
    """Calls in a source file that write a file, or might."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        module = getattr(getattr(call.func, "value", None), "id", "")
        texts = {node.value for node in ast.walk(call) if isinstance(node, ast.Constant)}
        if name in _MODULES.get(module, ()) or module == "shutil":
            if "O_RDONLY" not in ast.unparse(call):
                yield f"{module}.{name}"
        elif name == "open" and module not in ("PixelMemory", "VectorMemory"):
            if texts & {mode + kind for mode in ("w", "x", "a", "r+", "w+") for kind in ("", "b", "t")} or (
                "+b" in "".join(map(str, texts))
            ):
                yield name
        elif name in _WRITING and not (name == "memmap" and "r" in texts):
            yield name


def test_files_are_written_in_one_place():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if calls := set(writing_calls(path.read_text())):
            found[path.relative_to(PACKAGE).as_posix()] = calls
    assert found == WRITES


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "path.open(mode='xb')",
        "open(path, 'r+b')",
        "path.write_text('x')",
        "figure.savefig(path)",
        "safetensors.numpy.save_file(arrays, path)",
        "os.rename(a, b)",
        "shutil.move(a, b)",
        "np.save(path, array)",
    ],
)
def test_other_ways_to_write_are_found(line):
    assert list(writing_calls(line))
    assert not list(writing_calls("open(path, 'rb'); os.open(path, os.O_RDONLY); text.replace('a', 'b')"))


@every_writer
@pytest.mark.parametrize("there", [False, True], ids=["dangling", "to a file"])
def test_behind_a_link_its_target_is_replaced(writer, there, tmp_path):
    for folder in ("links", "files", "plain"):
        (tmp_path / folder).mkdir()
    link, target = tmp_path / "links" / "link", tmp_path / "files" / "target"
    WRITERS[writer](tmp_path / "plain" / "file")
    if there and writer == "ResumableFile":
        save_resumable(target)  # it refuses any other content
    elif there:
        target.write_text("before")
    (tmp_path / "links" / "second").symlink_to(target)
    link.symlink_to("second")
    WRITERS[writer](link)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_bytes() == (tmp_path / "plain" / "file").read_bytes()
    assert sorted(os.listdir(tmp_path / "links")) == ["link", "second"]
    assert os.listdir(tmp_path / "files") == ["target"]


@pytest.mark.parametrize("writer", REPLACING)
@pytest.mark.parametrize("linked", [False, True], ids=["file", "link"])
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_file_that_was_there_keeps_its_mode(writer, linked, mode, tmp_path, monkeypatch):
    target = path = tmp_path / "target"
    target.touch()
    target.chmod(mode)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(target)
    seen, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(os.fstat(handle).st_mode), sync(handle)))
    WRITERS[writer](path)
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.stat().st_size
    assert stat.S_IMODE(seen[0]) == mode  # while it is written, too


@every_writer
def test_a_new_file_gets_the_mode_of_the_umask(writer, tmp_path):
    before = os.umask(0o027)
    try:
        WRITERS[writer](tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@every_writer
@pytest.mark.parametrize("name", ["n" * 250, "n" * 255, "é" * 125, "日" * 85], ids=["250", "255", "é", "日"])
def test_long_names(writer, name, tmp_path):
    for _ in range(2):
        WRITERS[writer](tmp_path / name)
        assert os.listdir(tmp_path) == [name]


@every_writer
def test_a_name_that_is_too_long_is_named_at_once(writer, tmp_path):
    with pytest.raises(OSError) as caught:
        WRITERS[writer](tmp_path / ("n" * 256))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert caught.value.filename == str(tmp_path / ("n" * 256))
    assert not os.listdir(tmp_path)


@every_writer
@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_errors_name_the_target(writer, call, tmp_path, monkeypatch):
    path = tmp_path / "link"
    path.symlink_to("target")
    if writer in REPLACING:
        (tmp_path / "target").touch()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *map(str, arguments[:1]))

    if call == "fchmod" and writer == "ResumableFile":
        call = "posix_fallocate"
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError) as caught:
        WRITERS[writer](path)
    assert caught.value.filename == str(path)
    assert "None" not in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert ".part" not in str(caught.value)
    assert not list(tmp_path.glob(".*"))


@every_writer
@pytest.mark.parametrize("kind", ["folder", "pipe", "circle", "below a file"])
def test_what_is_no_file_is_named_and_left(writer, kind, tmp_path):
    path = tmp_path / "path"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to("path")
    else:
        path.touch()
        path = path / "file"
    before = (tmp_path / "path").lstat()
    with pytest.raises(OSError) as caught:
        WRITERS[writer](path)
    assert f"'{tmp_path / 'path'}'" in str(caught.value)  # also where a file below it was to be written
    assert (tmp_path / "path").lstat().st_mode == before.st_mode
    assert os.listdir(tmp_path) == ["path"]


def test_a_killed_writer_of_pieces_leaves_one_temporary_file(tmp_path, run_python):
    script = f"""
import os, signal
from pyhue._files.resumable import ResumableFile
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
ResumableFile({str(tmp_path / "file")!r}, {{"from": "here"}}, b"head", 4)
"""
    for _ in range(2):
        assert run_python(script).returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [".file.part.json.note.tmp", "file.part"]
    save_resumable(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5, 3)])
def test_tensors_come_back(kind, shape, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    array = np.asarray(np.random.default_rng(0).integers(0, 100, shape)).astype(kind)
    arrays = {"odd": np.arange(3, dtype=np.uint8), "array": array, "turned": array.T, "wide": np.ones(2)}
    save_tensors(tmp_path / "file", {"text": "é"}, arrays)
    file = open_tensors(tmp_path / "file")
    assert file.metadata == {"text": "é"}
    others = safetensors.load_file(tmp_path / "file")
    for name, expected in arrays.items():
        for got in (file.array(name), others[name]):
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            np.testing.assert_array_equal(got, expected)
        assert not file.array(name).flags.writeable
        assert file.array(name).flags.aligned


def test_dtypes_that_numpy_does_not_have(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + bytes(6))
    file = open_tensors(tmp_path / "file")
    with pytest.raises(ValueError, match=r"file: expected a of one of U8, .*, got BF16"):
        file.array("a")
