"""A wrong argument of a command is named before anything is written: every command that takes --out."""

import argparse

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from pictures import write_pictures

from pyhue import _cli

TRAIN = ["train", "DATA", "--image-size", "16", "--epochs", "1"]
SMALL = ["--backbone", "resnet18-w2", "--image-size", "16"]
NETWORKS = {
    "resnet19": "backbone: expected resnet18",
    "resnet18-w0": "backbone: expected resnet18",
    "torchvision:resnet19": "torchvision",
    "timm:resnet19": "timm",
    "no_such_module:make": "no_such_module cannot be imported",
    "none.py:make": "there is no file none.py",
    "network.py:none": "network.py has no function 'none'",
    "network.py:number": "gave int, expected nn.Module",
    "network.py:flat": "backbone: expected feature maps",
    "network.py:grey": "backbone: does not take images of 16 x 16 pixels",
}
NETWORK = """
from torch import nn
def number(): return 1
def flat(): return nn.Flatten()
def grey(): return nn.Conv2d(1, 4, 3)
"""
CASES = {
    **{f"train {name}": ([*TRAIN, "--backbone", name], message) for name, message in NETWORKS.items()},
    "train pretrained": ([*TRAIN, "--pretrained"], "pretrained: there are no pretrained weights"),
    "train data": (["train", "NONE", *SMALL], "No such file"),
    "train device": ([*TRAIN, *SMALL, "--device", "abacus"], "device: 'abacus'"),
    "train folds": ([*TRAIN, *SMALL, "--folds", "9"], "9 folds need at least 9 images of each class"),
    "train lr": ([*TRAIN, *SMALL, "--lr", "0"], "lr: expected a number above 0"),
    "train hue": ([*TRAIN, *SMALL, "--hue-scale", "-1"], "hue_scale: expected at least 0"),
    "train seeds": ([*TRAIN, *SMALL, "--seeds", "1", "1"], "seeds: expected different numbers"),
    **{
        f"{command} {name}": ([command, "DATA", "--image-size", "16", "--backbone", name], message)
        for command in ("features", "observe", "descriptors")
        for name, message in NETWORKS.items()
    },
    **{
        f"{command} {what}": ([command, "DATA", *SMALL, *options], message)
        for command in ("features", "observe", "descriptors")
        for what, options, message in (
            ("size", ["--image-size", "0"], "image_size: expected at least 1"),
            ("batch", ["--batch-size", "0"], "batch_size: expected at least 1"),
            ("device", ["--device", "abacus"], "device: 'abacus'"),
            ("pretrained", ["--pretrained"], "pretrained: there are no pretrained weights"),
        )
    },
    "features data": (["features", "NONE", *SMALL], "No such file"),
    "observe data": (["observe", "NONE", *SMALL], "No such file"),
    "observe network": (["observe", "DATA"], "needs --backbone"),
    "observe k": (["observe", "DATA", *SMALL, "-k", "0"], "k: expected at least 1"),
    "descriptors data": (["descriptors", "NONE", *SMALL], "No such file"),
    "descriptors network": (["descriptors", "DATA"], "needs --backbone"),
    "descriptors k": (["descriptors", "DATA", *SMALL, "-k", "-1"], "k: expected at least 1"),
    "descriptors one fold": (["descriptors", "DATA", *SMALL, "--folds", "1"], "folds: expected at least 2"),
    "descriptors folds": (["descriptors", "DATA", *SMALL, "--folds", "9"], "9 folds need at least 9 images"),
    "compare one": (["compare", "DATA"], "runs: expected at least 2"),
    "compare no run": (["compare", "DATA", "NONE"], "not the folder of a run"),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_written(case, tmp_path, monkeypatch, capsys):
    arguments, message = CASES[case]
    data = write_pictures(tmp_path / "data", 5)
    (tmp_path / "network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    before = sorted(tmp_path.rglob("*"))
    arguments = [{"DATA": str(data), "NONE": str(tmp_path / "none")}.get(text, text) for text in arguments]
    assert _cli.main([*arguments, "--out", str(tmp_path / "out" / "deep")]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"pyhue {arguments[0]}: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["train", "features", "observe", "descriptors"])
def test_networks_are_tried_before_images_are_read(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pyhue.images.scan_images", lambda *_: pytest.fail("read images"))
    (tmp_path / "data").mkdir()
    arguments = [command, str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert _cli.main([*arguments, "--backbone", "resnet19"]) == 1
    assert "backbone: expected resnet18" in capsys.readouterr().err


def test_every_command_that_writes_is_among_them():
    """`demo` has no argument that argparse does not check, but --out."""
    actions = _cli.parser()._actions
    (commands,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    writing = {name for name, parser in commands.choices.items() if "--out" in parser._option_string_actions}
    assert writing - {"demo"} == {arguments[0] for arguments, _ in CASES.values()}
