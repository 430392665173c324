"""`--json`: every command prints what it found, and nothing else, as JSON."""

import argparse
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from pictures import write_pictures

from pyhue import _cli
from pyhue._text import jsonable

SMALL = ["--image-size", "16", "--backbone", "resnet18-w2"]


@pytest.fixture
def printed(tmp_path, capsys):
    """printed(command, *options) runs a command on pictures and returns its JSON."""
    data = write_pictures(tmp_path / "data", 6)

    def run(command, *options, out=None):
        given = [command, *options, "--json"]
        given += ["--out", str(out)] if out else []
        assert _cli.main([str(data) if option == "DATA" else option for option in given]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_commands_on_activations(printed, tmp_path):
    features = tmp_path / "features"
    found = printed("features", "DATA", *SMALL, out=features)
    assert (found["images"], found["classes"], found["out"]) == (18, 3, str(features))
    assert found["bytes"] == features.stat().st_size
    found = printed("observe", str(features), out=tmp_path / "observe")
    assert found["report"] == str(tmp_path / "observe" / "observe.html")
    assert 0 <= found["same_class_matches"] <= 1
    found = printed("descriptors", str(features), "--folds", "2", "--exact-only", out=tmp_path / "tables")
    assert found["descriptors"][0]["descriptor"] == "pixel vectors"
    assert all(0 <= row["accuracy"] <= 1 for row in found["descriptors"])
    assert found["indexes"] == []


def test_commands_on_runs(printed, tmp_path):
    options = [*SMALL, "--epochs", "1", "--folds", "2"]
    for run in ("one", "two"):
        found = printed("train", "DATA", *options, "--hue-scale", str(len(run + "s")), out=tmp_path / run)
        assert found["run"] == str(tmp_path / run)
        assert [result["fold"] for result in found["results"]] == [0, 1]
    runs = [str(tmp_path / run) for run in ("one", "two")]
    found = printed("compare", *runs, out=tmp_path / "compared")
    assert [row["run"] for row in found["runs"]] == ["one", "two"]
    assert found["runs"][0]["p_value"] is None  # there is none: the first run is compared with itself


def test_demo(printed, tmp_path, monkeypatch):
    pytest.importorskip("pyhue.nn")
    from pyhue._demo import run

    report = run.Report(3, 1, 0.5, np.float64(0.25), 48, 16, 1.5, 0.5, 2, tmp_path / "digits.png")
    monkeypatch.setattr(run, "run", lambda out, seed, epochs: report)
    found = printed("demo", out=tmp_path)
    assert found == report._asdict() | {"picture": str(tmp_path / "digits.png")}


def test_every_command_has_it():
    (commands,) = (a for a in _cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert all("--json" in parser._option_string_actions for parser in commands.choices.values())


def test_numbers_that_json_lacks():
    values = {"a": np.float32(0.5), "b": (np.int64(3), float("nan")), "c": np.float64("inf"), "d": True}
    assert jsonable(values) == {"a": 0.5, "b": [3, None], "c": None, "d": True}
