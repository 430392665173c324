"""Commands whose stderr is missing, closed, full or of another encoding: they do their work all the same."""

import errno
import io
import os
import subprocess
import sys
import types

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from pictures import write_pictures

from pyhue import _cli
from pyhue._stderr import on_terminal, progress_bar, say


class Broken(io.StringIO):
    """A stream of which every write fails; a terminal, so that bars are shown."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def isatty(self):
        return True

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "full": lambda: Broken(OSError(errno.ENOSPC, "No space left on device")),
    "pipe without a reader": lambda: Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "broken terminal": lambda: Broken(OSError(errno.EIO, "Input/output error")),
    "detached": lambda: Broken(ValueError("underlying buffer has been detached")),
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), "ascii"),
}
TINY = ["--backbone", "resnet18-3x3-w2", "--image-size", "16", "--on-error", "skip"]
COMMANDS = {
    "demo": ["demo", "--epochs", "1", "--out", "out"],
    "features": ["features", "images", "--out", "out/f", *TINY],
    "observe": ["observe", "images", "--out", "out", "-k", "2", *TINY],
    "descriptors": [
        "descriptors",
        "images",
        "--out",
        "out",
        "-k",
        "2",
        "--folds",
        "2",
        "--exact-only",
        *TINY,
    ],
    "train": ["train", "images", "--out", "out", "--epochs", "1", "--folds", "2", "--folds-run", "1", *TINY],
}


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "images", 3)
    (tmp_path / "images" / "red" / "empty.png").touch()
    (tmp_path / "images" / "red" / "noté").touch()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_commands_need_no_stderr(images, monkeypatch, command, stream):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", STREAMS[stream]())
        assert _cli.main(COMMANDS[command]) == 0
    assert os.listdir("out")


@pytest.mark.parametrize("stream", STREAMS)
def test_errors_need_no_stderr(images, monkeypatch, stream, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", STREAMS[stream]())
        assert _cli.main(["features", "nowhere", "--out", "out", *TINY]) == 1
    if stream == "none":
        assert "nowhere" in capsys.readouterr().out


@pytest.mark.parametrize("stream", STREAMS)
def test_bars_and_lines(monkeypatch, stream):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", STREAMS[stream]())
        for disable in (None, False, True):
            with progress_bar(range(3), "bar", disable=disable, mininterval=0) as bar:
                assert list(bar) == [0, 1, 2]
                bar.set_postfix_str("é")
                bar.refresh()
        say("a line, é")
        on_terminal()


def test_a_terminal_gets_a_bar_and_a_file_none(monkeypatch):
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda answer=terminal: answer
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            assert list(progress_bar(range(3), "counting")) == [0, 1, 2]
            assert on_terminal() == terminal
        assert ("counting: 100%" in stream.getvalue()) == terminal


@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_without_stderr(images, command):
    """As the shell's 2>&- and pythonw start it."""
    code = "import sys; from pyhue import _cli; assert sys.stderr is None; sys.exit(_cli.main(sys.argv[1:]))"
    script = f'exec "{sys.executable}" -c "{code}" "$@" 2>&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMANDS[command]], stdout=subprocess.PIPE, timeout=300, check=False
    )
    assert done.returncode == 0
    assert os.listdir("out")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "cp1252"])
def test_output_escapes_what_its_encoding_does_not_have(images, monkeypatch, encoding):
    os.rename(b"images/red/empty.png", b"images/red/\xff\xe9.png")
    buffer = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding))
        assert _cli.main(COMMANDS["train"]) == 0
        sys.stdout.flush()
        text = buffer.getvalue().decode(encoding)
    assert "\\udcff\\udce9.png" in text
    with open("out/skipped.csv", encoding="utf-8") as file:
        assert "\\udcff\\udce9.png" in file.read()


def test_notebooks_have_bars_of_their_own(monkeypatch):
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr("tqdm.auto.tqdm", lambda items, desc, total, **options: (items, desc, total, options))
    found = progress_bar([1, 2], "steps", unit="image")
    assert found == ([1, 2], "steps", None, {"disable": False, "dynamic_ncols": True, "unit": "image"})
    shell.config.clear()  # IPython in a terminal
    assert list(progress_bar([1, 2], "steps")) == [1, 2]
