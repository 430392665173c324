import importlib.util
import subprocess
import sys

import pytest

import pyhue
from pyhue import _cli


def test_info_prints_the_configuration(capsys):
    assert _cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"pyhue            {pyhue.__version__}" in lines
    assert any(line.startswith("instruction set") for line in lines)


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in ("info", "demo", "train", "compare"))


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--seed", "-1"], ["demo", "--epochs", "few"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: pyhue" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "package"), [("torch", "torch"), ("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")]
)
def test_demo_names_what_to_install(module, package, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))
    assert _cli.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error == f"pyhue demo: needs {package}; install with: pip install {package}\n"


def test_demo_reports_a_folder_that_cannot_be_made(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert _cli.main(["demo", "--out", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pyhue demo: ")
    assert error.count("\n") == 1


def test_demo_reports_an_import_that_fails(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyhue._demo.run", None)
    monkeypatch.delattr(pyhue, "_demo", raising=False)
    assert _cli.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pyhue demo: ")
    assert error.count("\n") == 1


def test_importing_pyhue_leaves_torch_alone():
    code = "import sys, pyhue, pyhue._cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
