"""Files and folders that documents and comments name are there."""

import fnmatch
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("pyhue", "csrc", "cmake", "docs", "tests", "bench", "examples", "experiments")
ENDINGS = ("py", "pyi", "h", "cpp", "cu", "cmake", "md")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]
SOURCES = [path for name in FOLDERS for path in (ROOT / name).rglob("*.*") if path.suffix[1:] in ENDINGS[:-1]]
SOURCES.remove(Path(__file__))
THERE = {path.name for name in FOLDERS for path in (ROOT / name).rglob("*")}
THERE |= {path.name for path in DOCUMENTS}
#: What builds, benchmarks and commands make; placeholders.
MADE = re.compile(
    r"bench/results|pyhue/_(core|emulation)$|\.so$|/NAME|^((report|descriptors)\.md|FILE\.py|NAME\..*|_kernels\.h)$"
)

_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*{{}},-]*[\w/*}}]")
_FILE = re.compile(rf"(?<![\w./*<-])[\w*]+\.(?:{{[\w,]+}}|{'|'.join(ENDINGS)})\b(?![/(.])")


def alternatives(name):
    """`a.{h,cpp}` as `a.h` and `a.cpp`."""
    parts = [part.split(",") for part in re.split(r"{([^}]*)}", name)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def missing(text, files=False):
    """Paths from the root, and with `files` names of files without a folder, that are nowhere."""
    paths = [one for name in _PATH.findall(text) for one in alternatives(name)]
    names = [one for name in _FILE.findall(text) for one in alternatives(name)] if files else []
    found = [path for path in paths if not any(ROOT.glob(path.rstrip("/")))]
    found += [name for name in names if not fnmatch.filter(THERE, name)]
    return [name for name in found if not MADE.search(name)]


def by_path(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_path)
def test_documents(path):
    found = missing(path.read_text(), files=True)
    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=by_path)
def test_comments(path):
    found = missing(path.read_text(), files=path.is_relative_to(ROOT / "csrc"))
    assert not found


def test_what_is_not_there_is_found():
    text = "`pyhue/nowhere/`, csrc/core/search.{h,xyz}, tests/test_*.py, nothing.py, search.h, pyhue/NAME.py"
    assert missing(text, files=True) == ["pyhue/nowhere/", "csrc/core/search.xyz", "nothing.py"]
