"""Code in the documents: a page's Python is run, block after block, and its shell lines, on small pictures.

A page may prepare a block by `<!-- setup:` lines of Python `-->`, and say by `<!-- needs: module -->` what
the next one cannot run without: "a GPU", or a module. NOT_RUN says which shell lines are not run, and why.
"""

import importlib.util
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import pyhue
from pyhue import _cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(
    r"^(?:<!-- (?P<kind>setup|needs):\s(?P<told>.*?)-->|```(?P<language>[\w{}-]*)\n(?P<code>.*?)^```)$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """Some Python of a page."""

    line: int
    code: str
    needs: str


def python_blocks(text):
    """The Python of a page, setups among it."""
    blocks, needs = [], ""
    for match in FENCED.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["kind"] == "needs":
            needs = match["told"].strip()
        elif match["kind"] == "setup":
            blocks.append(Block(line, match["told"], needs))
        elif match["language"] == "python":
            blocks.append(Block(line, match["code"], needs))
            needs = ""
    return blocks


def shell_lines(text):
    """The lines of a page's shell blocks, those that a backslash continues as one."""
    code = "".join(match["code"] for match in FENCED.finditer(text) if match["language"] == "sh")
    return [line for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def missing(needs):
    """Whether what a block needs is not here."""
    if needs == "a GPU":
        torch = pytest.importorskip("torch")
        return not torch.cuda.is_available()
    return importlib.util.find_spec(needs) is None


def by_path(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page.read_text())], ids=by_path)
def test_python(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.root, "handlers", [])  # a page may ask for the log
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    blocks = python_blocks(page.read_text())
    if any("torch" in block.code or "pyhue.nn" in block.code for block in blocks):
        pytest.importorskip("torch")
        pytest.importorskip("pyhue.nn")
    threads = pyhue.get_num_threads()
    names, left_out = {"__name__": "page"}, []
    for block in blocks:
        if block.needs and missing(block.needs):
            left_out.append(f"line {block.line} needs {block.needs}")
            continue
        code = compile("\n" * block.line + block.code, str(page), "exec")
        exec(code, names)
    pyhue.set_num_threads(threads)
    if left_out:
        pytest.skip(f"the rest ran; {'; '.join(left_out)}")


#: What shell lines may call beside pyhue: nothing is run.
OTHERS = {"pip", "make", "python", "git", "for", "done", "train", "train()", "common"}
NUMBERS = {
    "$lr": "0.1",
    "$decay": "0.1",
    "$scale": "1",
    "$weight": "1",
    "LR": "0.1",
    "DECAY": "0.1",
    "$common": "",
}


def commands(line):
    """The commands of a line as words, variables replaced by numbers; functions of the shell left out."""
    line = re.sub(r"^\S+\(\) \{ (?:\w+=\S+; shift; )?(.*); \}$", r"\1", line)
    for name, value in NUMBERS.items():
        line = line.replace(name, value)
    words = shlex.split(line.replace(";", " ; "), comments=True)
    part = []
    for word in [*words, ";"]:
        if word in (";", "&&", "|", ">", "do"):
            yield part
            part = []
        elif part or "=" not in word:
            part.append(word)


@pytest.mark.parametrize("page", [page for page in PAGES if shell_lines(page.read_text())], ids=by_path)
def test_shell(page, capsys):
    parser = _cli.parser()
    for line in shell_lines(page.read_text()):
        for words in commands(line):
            if not words or words[0] != "pyhue":
                continue
            try:
                parser.parse_args([word for word in words[1:] if word not in ('"$@"', "$@")])
            except SystemExit as stopped:
                if stopped.code:
                    pytest.fail(f"{line}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", [page for page in PAGES if shell_lines(page.read_text())], ids=by_path)
def test_shell_names_what_is_there(page):
    """Scripts, targets of make, extras."""
    text = "\n".join(shell_lines(page.read_text()))
    assert all((ROOT / name).is_file() for name in re.findall(r"(?:examples|bench|docs|tests)/\w+\.py", text))
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^make ([a-z][\w-]*)", text, re.MULTILINE)) <= targets
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert {
        name for found in re.findall(r"(?:\.|pyhue)\[([\w,]+)\]", text) for name in found.split(",")
    } <= extras


#: Shell lines that are not run, by page and expression, and why.
NOT_RUN = {
    (".*", r"make |pip install|\. \.venv"): "builds and installs, as what runs this test did",
    (".*", r".*--pretrained"): "downloads weights",
    ("docs/evaluations.md", r"PYHUE_DATA=weights pyhue features"): "needs weights",
    (
        "docs/evaluations.md",
        r"python examples/dense_retrieval.py +#",
    ): "slow, and tested by itself",
    ("docs/training.md", r".*"): "trains for hours",
    ("docs/reproduction.md", r".*"): "takes hours, and needs weights and images",
}


def lines_to_run(page):
    """The shell lines of a page that NOT_RUN does not name."""
    return [
        line
        for line in shell_lines(page.read_text())
        if not any(re.match(where, by_path(page)) and re.match(what, line) for where, what in NOT_RUN)
    ]


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """A folder with what the pages call by name: pictures, their features, the examples."""
    for module in ("torch", "pyhue.nn", "PIL", "sklearn", "matplotlib", "faiss", "shtab"):
        pytest.importorskip(module)
    from pictures import write_pictures

    folder = tmp_path_factory.mktemp("shell")
    write_pictures(folder / "caltech101", 10)
    (folder / "caltech101" / "red").rename(folder / "caltech101" / "Motorbikes")
    (folder / "examples").symlink_to(ROOT / "examples")
    options = ["--backbone", "resnet18-3x3-w4", "--image-size", "32"]
    out = str(folder / "features.safetensors")
    assert _cli.main(["features", str(folder / "caltech101"), *options, "--out", out]) == 0
    return folder


def run_shell(lines, folder):
    """Runs lines in bash, which stops at the first that fails; the folder is also the user's own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(folder), "MPLBACKEND": "agg"}
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if lines_to_run(page)], ids=by_path)
def test_shell_runs(page, small_data):
    run_shell(lines_to_run(page), small_data)


@pytest.mark.parametrize(("where", "what"), NOT_RUN)
def test_what_is_not_run_is_there(where, what):
    pages = [page for page in PAGES if re.match(where, by_path(page))]
    assert any(re.match(what, line) for page in pages for line in shell_lines(page.read_text()))


def test_shell_that_fails_is_found(tmp_path):
    assert run_shell(["echo $HOME"], tmp_path) == f"{tmp_path}\n"
    with pytest.raises(AssertionError, match="no-such-file"):
        run_shell(["cat no-such-file | cat", "echo after"], tmp_path)


def test_code_that_fails_is_found(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- setup:\na = 1\n-->\n```python\nassert a == 1\n```\n\n```python\nassert a == 2\n```\n"
    )
    with pytest.raises(AssertionError):
        test_python(page, tmp_path, monkeypatch)
    assert [block.line for block in python_blocks(page.read_text())] == [1, 4, 8]


def test_commands_that_do_not_parse_are_found(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("```sh\nmake demo && pyhue train images --out runs --no-such-option  # no\n```\n")
    with pytest.raises(pytest.fail.Exception, match="no-such-option"):
        test_shell(page, capsys)
