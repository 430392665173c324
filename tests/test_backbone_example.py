"""examples/mobilenet_v2.py, on weights of a few channels and, where PYHUE_DATA is set, on the real ones."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from pyhue.backbones import load_backbone

EXAMPLE = Path(__file__).parents[1] / "examples" / "mobilenet_v2.py"
REAL = os.environ.get("PYHUE_DATA")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A convolution of stride 2 and a projection, then a block: depthwise, projection, sum."""
    random = np.random.default_rng(0)
    arrays = {
        "spec": np.array([[0, 2, 1, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 1], [2, 1, 0, 0]], np.int32),
        "mean": np.full(3, 0.5, np.float32),
        "std": np.full(3, 0.25, np.float32),
        "tfpad": np.int32(1),
        "w00": random.integers(-9, 9, (4, 3, 3, 3)).astype(np.int8),
        "s00": np.full(4, 0.05, np.float32),
        "w01": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "w02": random.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "w03": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "a03": np.array([-1.5, 1.5], np.float32),
    }
    arrays |= {f"b{layer:02d}": random.normal(size=4).astype(np.float32) for layer in range(4)}
    np.savez(tmp_path / "mobilenetv2_imagenet_int8.npz", **arrays)
    monkeypatch.setenv("PYHUE_DATA", str(tmp_path))
    return arrays


def test_layers_are_the_file_s(weights):
    conv = torch.nn.functional.conv2d
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    w = {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in weights.items()}
    first = conv(torch.nn.functional.pad((images - 0.5) / 0.25, (0, 1, 0, 1)), 0.05 * w["w00"], w["b00"], 2)
    block = conv(first.clamp(0, 6), w["w01"], w["b01"])
    inner = conv(block, w["w02"], w["b02"], padding=1, groups=4).clamp(0, 6)
    expected = (conv(inner, w["w03"], w["b03"]) + block).clamp(-1.5, 1.5)
    backbone = load_backbone(f"{EXAMPLE}:int8", image_size=8)
    torch.testing.assert_close(backbone(images), expected)
    assert backbone.channels == 4


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.delenv("PYHUE_DATA", raising=False)
    with pytest.raises(ValueError, match=r"PYHUE_DATA: .*features_f32\.npz"):
        load_backbone(f"{EXAMPLE}:float32")


@pytest.mark.skipif(not REAL, reason="PYHUE_DATA names no folder with the weights")
@pytest.mark.parametrize("factory", ["int8", "float32"])
def test_real_weights(factory):
    backbone = load_backbone(f"{EXAMPLE}:{factory}").eval()
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 224, 224))
    assert maps.shape == (1, 1280, 7, 7)
    assert 0 <= maps.min() <= maps.max() <= 6
