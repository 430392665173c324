import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

import torch
from pictures import write_pictures, write_split_pictures

from pyhue import _cli
from pyhue._runs.config import TrainConfig
from pyhue.training import checkpoint
from pyhue.training import fold as fold_module
from pyhue.training.run import train

TINY = [
    "--backbone",
    "resnet18-w2",
    "--image-size",
    "16",
    "--epochs",
    "1",
    "--folds",
    "2",
    "--folds-run",
    "1",
]


def failure(capsys, *arguments):
    """The one line that the command prints when it fails."""
    assert _cli.main(["train", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    line = error.splitlines()[-1]
    assert line.startswith("pyhue train: ")
    assert "Traceback" not in error
    return line


def test_empty_folder(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert "found no folder" in failure(capsys, tmp_path / "data", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_folder(tmp_path, capsys):
    assert "nowhere" in failure(capsys, tmp_path / "nowhere", "--out", tmp_path / "run")


def test_one_class(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 3, ["red"])
    assert "at least two classes" in failure(capsys, data, "--out", tmp_path / "run")


def test_fewer_images_than_folds(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 3)
    assert "class 'blue' has 3" in failure(capsys, data, "--out", tmp_path / "run")


def test_a_class_in_test_that_is_not_in_train(tmp_path, capsys):
    data = write_split_pictures(tmp_path / "data")
    write_pictures(data / "test", 1, ["red", "green"])
    (data / "test" / "red").rename(data / "test" / "violet")
    assert "'violet' not among the classes to train on" in failure(capsys, data, "--out", tmp_path / "run")


def test_damaged_images_are_named_or_skipped_and_counted(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 4)
    (data / "red" / "zero.png").touch()
    (data / "green" / "other.jpg").write_text("no picture")
    message = failure(capsys, data, "--out", tmp_path / "run", *TINY)
    assert "other.jpg" in message
    assert "(and 1 more)" in message
    assert _cli.main(["train", str(data), "--out", str(tmp_path / "run"), "--on-error", "skip", *TINY]) == 0
    assert "2 files skipped" in capsys.readouterr().out
    lines = (tmp_path / "run" / "skipped.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "2 files skipped" in (tmp_path / "run" / "report.md").read_text()


def test_other_options_are_refused_in_the_folder_of_a_run(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 4)
    assert _cli.main(["train", str(data), "--out", str(tmp_path / "run"), *TINY]) == 0
    capsys.readouterr()
    before = (tmp_path / "run" / "config.json").read_bytes()
    message = failure(capsys, data, "--out", tmp_path / "run", *TINY, "--lr", "0.1")
    assert "lr is 0.001 there and 0.1 here" in message
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_other_images_are_refused_in_the_folder_of_a_run(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 4)
    assert _cli.main(["train", str(data), "--out", str(tmp_path / "run"), *TINY]) == 0
    capsys.readouterr()
    write_pictures(data, 6)
    assert "other images" in failure(capsys, data, "--out", tmp_path / "run", *TINY)


OF_OTHER_IMAGES = "trained on other images"
NOT_WRITTEN = "it was not written by torch.save, or is damaged; expected tensors and plain Python alone"
A_MODULE = r"it holds torch\S*Linear; expected tensors and plain Python alone"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"not a checkpoint", "it is neither a safetensors file nor what torch.save wrote"),
        (b"\x80\2not a checkpoint", NOT_WRITTEN),
        (torch.nn.Linear(2, 2), A_MODULE),
        (None, OF_OTHER_IMAGES),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path, monkeypatch, content, why):
    data = write_split_pictures(tmp_path / "data")
    config = TrainConfig(str(data), backbone="resnet18-w2", image_size=16, epochs=2)
    path = tmp_path / "run" / "seed-0" / "fold-0" / "checkpoint.pt"

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    if content is None:
        write_pictures(data / "train", 9)
    else:
        path.write_bytes(content if isinstance(content, bytes) else checkpoint.to_bytes(content))
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: (not a checkpoint .*|was ){why}") as raised:
        train(config, tmp_path / "run")
    assert "weights_only" not in str(raised.value)


def test_a_damaged_configuration_is_named(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 4)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    assert "config.json: not the options of a run" in failure(capsys, data, "--out", tmp_path / "run", *TINY)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, capsys, monkeypatch):
    data = write_pictures(tmp_path / "data", 4)
    with monkeypatch.context() as patch:
        patch.setattr(fold_module.Loss, "forward", lambda *arguments: torch.tensor(torch.inf))
        message = failure(capsys, data, "--out", tmp_path / "run", *TINY)
    assert "the loss became inf" in message
    assert "--lr" in message
    assert _cli.main(["train", str(data), "--out", str(tmp_path / "run"), *TINY, "--lr", "1e-4"]) == 0


def test_unknown_device_and_backbone(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", 4)
    assert "device: 'abacus'" in failure(capsys, data, "--out", tmp_path / "run", "--device", "abacus")
    message = failure(capsys, data, "--out", tmp_path / "run", *TINY, "--backbone", "resnet19")
    assert "backbone: expected resnet18" in message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("image_size", 0),
        ("batch_size", 1),
        ("folds", 1),
        ("folds_run", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("weight_decay", -1.0),
        ("clip_grad_norm", 0.0),
        ("label_smoothing", 1.5),
        ("hue_scale", -1.0),
        ("hue_weight", float("inf")),
        ("hue_labels", "square"),
        ("loss", "hinge"),
        ("on_error", "ignore"),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("seeds", (-1,)),
    ],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ValueError, match=f"{option}: expected"):
        TrainConfig("data", **{option: value})


def test_options_survive_json():
    config = TrainConfig("data", hue_scale=2.0, seeds=(1, 2), amp=True)
    assert TrainConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="not the options"):
        TrainConfig.from_json(json.dumps({"data": "x", "colour": 3}))


def test_without_torch_the_command_says_what_to_install(tmp_path, run_python):
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name in ('torch', 'PIL') else find(name)\n"
        "from pyhue._cli import main\n"
        f"sys.exit(main(['train', {str(tmp_path)!r}, '--out', {str(tmp_path / 'run')!r}]))"
    )
    done = run_python(code)
    assert done.returncode == 1
    assert done.stderr == "pyhue train: needs torch, pillow; install with: pip install torch pillow\n"
