import importlib.util
import inspect
import json
import subprocess
import sys

import pytest

import pyhue
from pyhue import _cli, _config
from pyhue._config import config
from pyhue._runs.config import IMAGE_SIZE
from pyhue.features import extract_features


def raise_(error):
    raise error


def test_info_prints_the_configuration(capsys):
    assert _cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"pyhue            {pyhue.__version__}" in lines
    assert any(line.startswith("instruction set") for line in lines)


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"pyhue {pyhue.__version__}\n")


def test_info_as_json(capsys):
    assert _cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == config()


def test_info_names_gpus(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_config, "is_built", lambda name: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", "GPU {}".format)
    assert config()["GPU"] == "GPU 0, GPU 1"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell, capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(name in script for name in ("descriptors", "bench", "--on-error", "--json"))
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_completion_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["--print-completion", "bash"])
    assert stopped.value.code == 2
    assert "needs shtab; install with: pip install shtab" in capsys.readouterr().err


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in ("info", "demo", "train", "compare", "bench"))


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


def test_every_command_has_the_same_image_size_unless_told_another():
    commands = {"features": ["--backbone", "resnet18"], "observe": [], "descriptors": [], "train": []}
    parsed = [
        _cli.parser().parse_args([name, "images", "--out", "out", *options])
        for name, options in commands.items()
    ]
    assert [options.image_size for options in parsed] == [IMAGE_SIZE] * len(commands)
    assert inspect.signature(extract_features).parameters["image_size"].default == IMAGE_SIZE


@pytest.mark.parametrize("error", [ImportError, MemoryError, OSError, ValueError, FileNotFoundError])
def test_what_goes_wrong_is_one_line(error, monkeypatch, capsys):
    monkeypatch.setattr("pyhue._cli.info.run", lambda options: raise_(error("this\nand that")))
    assert _cli.main(["info"]) == 1
    assert capsys.readouterr().err == "pyhue info: this and that\n"


@pytest.mark.parametrize("error", [AssertionError, TypeError, KeyError, RuntimeError])
def test_errors_of_programming_show_where_they_are(error, monkeypatch):
    monkeypatch.setattr("pyhue._cli.info.run", lambda options: raise_(error("this")))
    with pytest.raises(error, match="this"):
        _cli.main(["info"])


def test_importing_pyhue_leaves_torch_alone():
    code = "import sys, pyhue, pyhue._cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
