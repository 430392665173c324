"""A place that cannot be read or written: one line that says which, and what is there."""

import errno
import os

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from pictures import write_pictures

from pyhue import _cli
from pyhue._files.atomic import naming, write_atomically

TINY = ["--backbone", "resnet18-3x3-w2", "--image-size", "16"]
TRAIN = ["--epochs", "1", "--folds", "2", "--folds-run", "1"]
COMMANDS = {
    "features": TINY,
    "observe": ["-k", "2", *TINY],
    "descriptors": ["-k", "2", "--folds", "2", "--exact-only", *TINY],
    "train": [*TRAIN, *TINY],
}


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    return write_pictures(tmp_path / "images", 4)


def line_of(capsys, *arguments):
    assert _cli.main([str(argument) for argument in arguments]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "None" not in line
    return line.removeprefix(f"pyhue {arguments[0]}: ")


@pytest.mark.parametrize("out", ["file", "file/x", "file/x/y"])
@pytest.mark.parametrize("command", COMMANDS)
def test_out_that_is_a_file_or_below_one(images, command, out, capsys):
    out = f"{out}/f.safetensors" if command == "features" else out
    line = line_of(capsys, command, images, "--out", out, *COMMANDS[command])
    assert line == "[Errno 20] a file, where a folder is needed: 'file'"


@pytest.mark.parametrize("command", ["train", "descriptors"])
def test_a_folder_that_cannot_be_is_named_before_anything_is_read(images, command, capsys, monkeypatch):
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("read images"))
    line = line_of(capsys, command, images, "--out", "file", *COMMANDS[command])
    assert line == "[Errno 20] a file, where a folder is needed: 'file'"


def test_other_commands_whose_folder_is_a_file(images, capsys):
    for run, loss in (("a", "onehot"), ("b", "onehot+hue")):
        assert _cli.main(["train", str(images), "--out", run, *TRAIN, *TINY, "--loss", loss]) == 0
    for arguments in (["compare", "a", "b"], ["demo", "--epochs", "1"]):
        assert line_of(capsys, *arguments, "--out", "file/x").endswith("where a folder is needed: 'file'")


def test_a_file_that_is_to_be_written_where_a_folder_is(images, capsys):
    line = line_of(capsys, "features", images, "--out", "images/blue", *TINY)
    assert line == "[Errno 21] Is a directory: 'images/blue'"


@pytest.mark.parametrize("command", ["features", "train"])
@pytest.mark.parametrize("data", ["file", "images/blue/000.png", "file/x"])
def test_images_that_are_no_folder(images, command, data, capsys):
    line = line_of(capsys, command, data, "--out", "out", *COMMANDS[command])
    what = "not a folder; expected one with a folder of images for each class"
    assert line == f"[Errno 20] {what}: '{data}'"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_names_the_file_and_nothing_else(tmp_path, monkeypatch, call):
    names = [".x.tmp", None, "x"] if call == "replace" else []

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)

    path = tmp_path / "x"
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as raised, naming(path):
        write_atomically(path, "text")
    assert str(raised.value) == f"[Errno 28] No space left on device: '{path}'"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_skipped_file_is_named_once(images, content, capsys):
    (images / "blue" / "bad.png").write_bytes(content)
    (images / "blue" / "closed.png").write_bytes(content)
    assert _cli.main(["features", "images", "--out", "f", *TINY, "--on-error", "skip"]) == 0
    skipped = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped images")]
    assert [line.count("images/blue/") for line in skipped] == [1, 1]


def test_a_file_that_vanishes_is_named_once(images, monkeypatch, capsys):
    def gone(path, *arguments, **options):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr("PIL.Image.open", gone)
    line = line_of(capsys, "features", "images", "--out", "f", *TINY)
    assert line.startswith(
        "images/blue/000.png: not an image that can be read: No such file or directory (and"
    )
