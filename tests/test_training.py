import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

import torch
from matplotlib.image import imread
from pictures import write_pictures, write_split_pictures

from pyhue import _cli
from pyhue._files.tables import read_csv
from pyhue._runs.config import TrainConfig
from pyhue.backbones import load_backbone
from pyhue.training import fold as fold_module
from pyhue.training import model as model_module
from pyhue.training.run import train

TINY = {"backbone": "resnet18-w2", "image_size": 16, "batch_size": 8}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data"), 9)


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    return write_split_pictures(tmp_path_factory.mktemp("divided"), val=3)


def numbers(run):
    """Everything in a run folder that must not depend on interruptions, by file."""
    found = {}
    for path in sorted(run.rglob("*")):
        if path.name in ("metrics.csv", "model.pt", "config.json"):
            found[path.relative_to(run)] = path.read_bytes()
        if path.name == "result.json":
            found[path.relative_to(run)] = json.loads(path.read_text()) | {"seconds": 0}
    return found


def flags(options):
    return [part for name, value in options.items() for part in ("--" + name.replace("_", "-"), str(value))]


def test_the_command_end_to_end(data, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", str(data), "--out", str(out), "--epochs", "15", "--folds", "3", *flags(TINY)]
    command += ["--lr", "0.01"]
    assert _cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 trainings" in printed
    with (out / "results.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    assert [(row["seed"], row["fold"], row["images"]) for row in results] == [
        ("0", "0", "9"),
        ("0", "1", "9"),
        ("0", "2", "9"),
    ]
    mean = np.mean([float(row["accuracy"]) for row in results])
    assert mean > 0.6  # chance is 1/3
    report = (out / "report.md").read_text()
    assert f"{100 * mean:.2f}" in report
    assert f"{100 * mean:.2f}" in printed
    pixels = imread(out / "curves.png")
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels)) > 50
    for number in range(3):
        folder = out / "seed-0" / f"fold-{number}"
        lines = (folder / "metrics.csv").read_text().splitlines()
        assert lines[0].startswith("epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy")
        assert len(lines) == 16
        assert list(folder.glob("events.out.tfevents.*"))
        assert not (folder / "checkpoint.pt").exists()
    state = {path.relative_to(out): path.stat().st_mtime_ns for path in out.rglob("model.pt")}
    assert _cli.main(command) == 0  # nothing is left to do
    assert capsys.readouterr().out == printed
    assert state == {path.relative_to(out): path.stat().st_mtime_ns for path in out.rglob("model.pt")}


def test_a_divided_data_set_is_validated_and_tested(divided, tmp_path):
    train(TrainConfig(str(divided), epochs=2, **TINY), tmp_path)
    folder = tmp_path / "seed-0" / "fold-0"
    rows = read_csv(folder / "metrics.csv")
    assert [round(row["val_accuracy"] * 9, 6) % 1 for row in rows] == [0, 0]
    result = json.loads((folder / "result.json").read_text())
    assert (result["measured_on"], result["images"], result["train_images"]) == ("test", 12, 24)
    assert list(tmp_path.glob("seed-*/*")) == [folder]


def test_without_a_test_folder_the_validation_images_are_the_result(divided, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for part in ("train", "val"):
        (data / part).symlink_to(divided / part)
    train(TrainConfig(str(data), epochs=1, **TINY), tmp_path / "run")
    folder = tmp_path / "run" / "seed-0" / "fold-0"
    result = json.loads((folder / "result.json").read_text())
    row = read_csv(folder / "metrics.csv")[-1]
    assert result["measured_on"] == "val"
    assert result["accuracy"] == row["val_accuracy"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_name_that_is_not_utf_8_has_no_events(divided, tmp_path, capsys):
    out = tmp_path / os.fsdecode(b"r\xe9")
    command = ["train", str(divided), "--epochs", "2", *flags(TINY), "--out"]
    assert _cli.main([*command, str(out)]) == 0
    notes = capsys.readouterr().err
    assert notes.count("no events for TensorBoard") == 1
    assert not list(out.rglob("events*"))
    assert _cli.main([*command, str(tmp_path / "plain")]) == 0
    assert "TensorBoard" not in capsys.readouterr().err
    assert numbers(out) == numbers(tmp_path / "plain")


def test_seeds_and_folds_can_be_added_later(data, tmp_path):
    config = {"data": str(data), "epochs": 1, "folds": 3, **TINY}
    train(TrainConfig(**config, folds_run=1), tmp_path)
    first = numbers(tmp_path)
    train(TrainConfig(**config, folds_run=2, seeds=(0, 5)), tmp_path)
    assert "4 of 4 trainings" in train(TrainConfig(**config, folds_run=1, seeds=(5,)), tmp_path)
    both = numbers(tmp_path)
    names = sorted(str(path.parent) for path in both if path.name == "result.json")
    assert names == ["seed-0/fold-0", "seed-0/fold-1", "seed-5/fold-0", "seed-5/fold-1"]
    assert all(both[path] == content for path, content in first.items() if path.name != "config.json")


def test_the_same_seed_gives_the_same_run_and_another_seed_another(data, tmp_path):
    config = {"data": str(data), "epochs": 1, "folds_run": 1, **TINY}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name))  # the state of the caller does not matter
        train(TrainConfig(**config, seeds=(seed,)), tmp_path / name)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    models = [tmp_path / name / f"seed-{seed}" / "fold-0" / "model.pt" for name, seed in (("a", 3), ("c", 4))]
    assert models[0].read_bytes() != models[1].read_bytes()


def test_the_random_state_of_the_caller_is_kept(divided, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(TrainConfig(str(divided), epochs=1, **TINY), tmp_path)
    assert torch.equal(torch.rand(3), expected)


class Stopped(BaseException):
    """What no code catches, as a kill."""


@pytest.mark.parametrize("step", [0, 1, 4, 7])
def test_a_run_that_stops_in_any_step_ends_the_same(divided, tmp_path, monkeypatch, step):
    config = TrainConfig(str(divided), epochs=3, **TINY)
    train(config, tmp_path / "whole")
    steps = iter(range(100))
    real = fold_module._step

    def stopping(*arguments):
        if next(steps) == step:
            raise Stopped
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "_step", stopping)
        with pytest.raises(Stopped):
            train(config, tmp_path / "stopped")
    train(config, tmp_path / "stopped")
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")


def test_a_full_disk_at_any_write_loses_nothing(divided, tmp_path, monkeypatch):
    config = TrainConfig(str(divided), epochs=2, **TINY)
    train(config, tmp_path / "whole")
    out = tmp_path / "full"
    real = os.fsync
    messages = []
    for last in range(0, 60, 3):
        count = iter(range(1000))

        def filling(handle, count=count, last=last):
            if next(count) == last:
                raise OSError(28, "No space left on device")
            real(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", filling)
            try:
                train(config, out)
            except OSError as error:
                messages.append(str(error))
            else:
                break
        assert not list(out.rglob("*.tmp"))
    assert len(messages) > 3
    assert all("No space left on device" in message and str(out) in message for message in messages)
    assert numbers(out) == numbers(tmp_path / "whole")


def test_killed_in_the_middle_and_started_again_it_ends_the_same(divided, tmp_path):
    options = {"epochs": 40, **TINY}
    config = TrainConfig(str(divided), **options)
    train(config, tmp_path / "whole")
    out = tmp_path / "killed"
    command = [sys.executable, "-c", "import sys; from pyhue._cli import main; sys.exit(main())"]
    command += ["train", str(divided), "--out", str(out), *flags(options)]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    checkpoint = out / "seed-0" / "fold-0" / "checkpoint.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, errors
    assert checkpoint.exists(), errors
    assert not (out / "seed-0" / "fold-0" / "result.json").exists()
    train(config, out)
    assert numbers(out) == numbers(tmp_path / "whole")
    assert not list(out.rglob("*.tmp"))


PLAIN = """
from torch import nn
class make(nn.Module):  # no batch statistics, which each process takes for itself
    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.behind = nn.Conv2d(8, 4, 1)  # as networks of timm have it behind their maps
    def forward(self, images):
        return self.maps(images)
"""


def test_a_run_from_before_layers_behind_the_maps_were_frozen_goes_on(divided, tmp_path, monkeypatch):
    (tmp_path / "plain.py").write_text(PLAIN)
    options = TINY | {"epochs": 2, "backbone": f"{tmp_path / 'plain.py'}:make"}
    train(TrainConfig(str(divided), **options), tmp_path / "whole")
    steps = iter(range(100))
    real = fold_module._step

    def stopping(*arguments):
        if next(steps) == 4:  # in the second epoch
            raise Stopped
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "_step", stopping)
        patch.setattr(model_module, "_freeze_unused", lambda *arguments: None)
        with pytest.raises(Stopped):
            train(TrainConfig(str(divided), **options), tmp_path / "run")
    train(TrainConfig(str(divided), **options), tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


@pytest.mark.usefixtures("gloo")
@pytest.mark.parametrize("layer", [None, "maps.1"])
def test_two_processes_take_the_steps_of_one(divided, tmp_path, layer):
    (tmp_path / "plain.py").write_text(PLAIN)
    options = {"epochs": 5, "lr": 0.01, "image_size": 16, "batch_size": 7, "clip_grad_norm": 0.5}
    options["backbone"] = f"{tmp_path / 'plain.py'}:make"
    options |= {"layer": layer} if layer else {}
    script = tmp_path / "main.py"
    script.write_text("import sys\nfrom pyhue._cli import main\nsys.exit(main())\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(script), "train", str(divided), "--out", str(tmp_path / "two"), "--no-augment"]
    done = subprocess.run(
        [*command, *flags(options)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy (test)") == 1
    train(TrainConfig(str(divided), augment=False, **options), tmp_path / "one")
    one, two = (tmp_path / name / "seed-0" / "fold-0" for name in ("one", "two"))
    for a, b in zip(read_csv(one / "metrics.csv"), read_csv(two / "metrics.csv"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    assert [result["processes"] for result in results] == [1, 2]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-4)
    assert results[0]["steps"] == results[1]["steps"] == 5 * 4
    trained = (3 * 9 + 1) * 8 + (0 if layer else (8 * 9 + 1) * 8)  # without those behind the maps
    assert [result["parameters"] for result in results] == [trained + (8 + 1) * (3 + 2)] * 2


def test_bfloat16_clipping_and_no_augmentation_train(data, tmp_path):
    options = {"amp": True, "clip_grad_norm": 0.1, "augment": False, "loss": "onehot", "weight_decay": 0.1}
    options |= TINY | {"backbone": "resnet18-3x3-w4"}  # torch 2.13's bfloat16 fails on maps of one pixel
    train(TrainConfig(str(data), epochs=4, folds_run=1, **options), tmp_path)
    result = json.loads((tmp_path / "seed-0" / "fold-0" / "result.json").read_text())
    assert np.isfinite(result["train_loss"])
    rows = read_csv(tmp_path / "seed-0" / "fold-0" / "metrics.csv")
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_the_trained_backbone_is_loaded_by_the_name_of_its_folder(divided, tmp_path):
    train(TrainConfig(str(divided), epochs=1, **TINY), tmp_path)
    folder = tmp_path / "seed-0" / "fold-0"
    backbone = load_backbone(str(folder))
    state = torch.load(folder / "model.pt", weights_only=True)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"])
    (folder / "model.pt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"model\.pt: not the weights of a trained network"):
        load_backbone(str(folder))
