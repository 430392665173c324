"""`--layer` and `--weights` through the commands."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

import torch
from pictures import write_pictures
from safetensors.torch import save_file

from pyhue import _cli
from pyhue.backbones import load_backbone
from pyhue.features import load_features
from pyhue.images import load_image

NAME, LAYER = "resnet18-3x3-w4", "layers.8.residual.3"
TINY = ["--backbone", NAME, "--image-size", "16", "--batch-size", "4"]
TRAIN = ["--folds", "2", "--folds-run", "1"]


@pytest.fixture
def images(tmp_path):
    return write_pictures(tmp_path / "images", 4)


@pytest.fixture
def weights(request, tmp_path):
    """A file with a network's weights, of the kind that the test names, and the network."""
    kind = getattr(request, "param", "safetensors")
    torch.manual_seed(5)
    network = load_backbone(NAME, image_size=16)
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    state = network.body.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if kind == "checkpoint" else state, path)
    return path, network.eval()


def features(images, out, *options):
    assert _cli.main(["features", str(images), "--out", str(out), *TINY, *options]) == 0
    return load_features(out)


def of_layer(network, images):
    """The layer's output by the network's own modules."""
    pixels = torch.from_numpy(np.stack([load_image(path, 16) for path in sorted(images.rglob("*.png"))]))
    seen = []
    handle = network.body.get_submodule(LAYER).register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        network(pixels)
    handle.remove()
    return seen[0].numpy()


@pytest.mark.parametrize("weights", ["pt", "safetensors", "checkpoint"], indirect=True)
def test_features_of_a_layer_with_weights_of_a_file(images, weights, tmp_path):
    path, network = weights
    found = features(images, tmp_path / "out.safetensors", "--layer", LAYER, "--weights", str(path))
    expected = of_layer(network, images)
    assert found.activations.shape == expected.shape == (12, 16, 4, 4)
    np.testing.assert_allclose(found.activations, expected, rtol=1e-3, atol=1e-3)  # float16
    assert found.source["layer"] == LAYER
    pooled = features(images, tmp_path / "pooled.safetensors", "--weights", str(path))
    assert pooled.activations.shape == (12, 32, 2, 2)
    assert "layer" not in pooled.source


def test_other_weights_or_layers_do_not_mix_in_one_file(images, weights, tmp_path, capsys):
    path, _ = weights
    out = tmp_path / "out.safetensors"
    command = ["features", str(images), "--out", str(out), *TINY]
    assert _cli.main([*command, "--weights", str(path), "--layer", LAYER]) == 0
    before = out.read_bytes()
    for options, what in (([], "weights"), (["--weights", str(path)], "layer")):
        capsys.readouterr()
        assert _cli.main([*command, *options]) == 1
        assert what in capsys.readouterr().err
        assert out.read_bytes() == before
    tables = ["--out", str(tmp_path / "tables"), "--exact-only", "--folds", "2", "-k", "1"]
    assert _cli.main(["descriptors", str(out), *tables, "--layer", "layers.3"]) == 1
    assert f"--layer: {out} has {LAYER}" in capsys.readouterr().err


def test_training_begins_with_the_weights_of_a_file_and_takes_the_layer(images, weights, tmp_path):
    path, network = weights
    out = tmp_path / "run"
    options = ["--layer", LAYER, "--weights", str(path), "--epochs", "1", "--lr", "1e-12", *TRAIN]
    assert _cli.main(["train", str(images), "--out", str(out), *TINY, *options]) == 0
    config = json.loads((out / "config.json").read_text())
    assert (config["layer"], config["weights"]) == (LAYER, str(path))
    fold = out / "seed-0" / "fold-0"
    state = torch.load(fold / "model.pt", weights_only=True)
    assert state["head.classifier.weight"].shape == (3, 16)  # channels of the layer
    for name, value in network.body.named_parameters():
        torch.testing.assert_close(state[f"backbone.body.{name}"], value.detach())
    trained = load_backbone(str(fold), image_size=16)
    assert trained.channels == 16  # the run's layer
    assert load_backbone(str(fold), image_size=16, layer="layers.3").channels == 4


@pytest.mark.parametrize("command", ["features", "train"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--layer", "layers.8.residual.9"],
            "no 'layers.8.residual.9'; 'layers.8.residual' has layers.8.residual.0",
        ),
        (["--layer", "nowhere"], "no 'nowhere'; the network has layers"),
        (["--weights", "absent.pt"], "absent.pt"),
        (["--weights", "other.pt"], "weights: other.pt has no layers.0.weight"),
        (["--weights", "text.pt"], "text.pt"),
        (["--weights", "other.pt", "--pretrained"], "weights: expected none beside pretrained ones"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    images, command, options, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.save({"other.weight": torch.ones(2)}, "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    assert _cli.main([command, str(images), "--out", "out", *TINY, *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pyhue {command}: ")
    assert message in line
    assert not (tmp_path / "out").exists()
