"""Every command that reads images finishes on a folder with all odd files, and counts each of them."""

import csv
import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from odd_images import write_odd_folder

from pyhue import _cli
from pyhue.features import load_features
from pyhue.images import scan_images, splits
from pyhue.images.decode import problem

TINY = ["--backbone", "resnet18-3x3-w2", "--image-size", "16", "--on-error", "skip"]
TRAIN = ["--epochs", "1", "--folds", "2", "--folds-run", "1"]
COMMANDS = {
    "features": ["--out", "out/features.safetensors"],
    "observe": ["--out", "out", "-k", "2"],
    "descriptors": ["--out", "out", "-k", "2", "--folds", "2", "--exact-only"],
    "train": ["--out", "out", *TRAIN],
}


@pytest.fixture
def odd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_odd_folder(Path("images"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_finishes_and_counts_each_odd_file(odd, command, capsys):
    assert _cli.main([command, "images", *COMMANDS[command], *TINY]) == 0
    output = capsys.readouterr()
    skipped = [line for line in output.err.splitlines() if line.startswith("skipped images")]
    assert {Path(line[len("skipped ") :].split(": ")[0]).name for line in skipped} == odd.skipped
    assert f"skipped {len(odd.skipped)} of the files" in output.err
    assert "passed over: " in output.err
    if command == "train":
        assert f"{len(odd.skipped)} files skipped that cannot be read" in output.out
        rows = list(csv.reader(Path("out/skipped.csv").read_text().splitlines()))
        assert {Path(name).name for name, _ in rows[1:]} == odd.skipped
        assert f"{odd.good} images of 2 classes at 16 pixels" in output.err
    else:
        features = load_features("out/features.safetensors")
        assert len(features.names) == len(set(features.names)) == odd.good
        assert features.classes == ["blue", "re$d$"]
    if command == "features":
        assert f"{odd.good} images of 2 classes, 16 x 2 x 2 activations at 16 pixels" in output.out


@pytest.mark.parametrize("command", COMMANDS)
def test_without_skip_the_first_is_named_and_nothing_is_written(odd, command, capsys):
    options = [option for option in TINY if option not in ("--on-error", "skip")]
    assert _cli.main([command, "images", *COMMANDS[command], *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pyhue {command}: images")
    assert f"(and {len(odd.skipped) - 1} more)" in line
    assert not os.path.exists("out")


@pytest.mark.parametrize("divided", [False, True])
def test_what_is_there_is_read_listed_as_skipped_or_as_passed_over(tmp_path, divided):
    root = tmp_path / "images"
    odd = write_odd_folder(root)
    (tmp_path / "divided").mkdir()
    (tmp_path / "divided" / "Training").symlink_to(root)
    images = splits(tmp_path / "divided", "skip").train if divided else scan_images(root, "skip")
    assert len(images.paths) == odd.good
    assert not any(problem(path) for path in images.paths)
    assert {path.name for path, _ in images.skipped} == odd.skipped
    assert {path.name for path, _ in images.passed_over} == odd.passed_over
    root = images.paths[0].parent.parent
    inside = set((root / "re$d$").iterdir())
    mentioned = {path for path, _ in [*images.skipped, *images.passed_over]} | set(images.paths)
    assert inside <= mentioned
    assert all(reason for _, reason in [*images.skipped, *images.passed_over])
