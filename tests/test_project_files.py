"""What the repository says of itself agrees."""

import re
import tomllib
from pathlib import Path

import pyhue

ROOT = Path(__file__).parents[1]


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert project["version"] == cited == pyhue.__version__


def test_one_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"license: {project['license']}\n" in (ROOT / "CITATION.cff").read_text()


def test_pip_is_asked_in_words_that_an_old_one_knows():
    """Debian 12 has pip 23.0, which knows --config-settings, but not yet its short form."""
    commands = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    asked = [
        line
        for line in commands
        if "pip install" in line or "$(INSTALL)" in line or line.startswith("EMULATION")
    ]
    assert len(asked) > 3
    assert not [line for line in asked if re.search(r"\s-C\s", line)]
