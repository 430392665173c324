"""Feature maps are what a network itself pools: checked on the networks of torchvision and timm themselves.

`make test-networks` runs this in an environment of its own and writes docs/networks.md.

Each network gets random weights, saves them to a file, and `load_backbone` loads that file. From the feature
maps of two images the network's own pooling and classifier have to make the network's own logits; from maps
given to the other image, other ones. Where the classifier reads the class token alone, maps are compared with
the network's own patch tokens instead.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from networks.families import REFUSED, TIMM
from networks.own_heads import HEADS, family
from networks.page import Row, write_page
from torch import Tensor, nn

from pyhue.backbones import Backbone, load_backbone

TORCHVISION = tuple(torchvision.models.list_models(module=torchvision.models))
NAMES = [f"torchvision:{name}" for name in TORCHVISION] + [f"timm:{name}" for name in TIMM.values()]
ROWS = Path(__file__).parents[2] / "build/networks/rows.json"
SIZE = 224
TOLERANCE = 1e-5  # of the largest logit: sums in another order
APART = 10 * TOLERANCE  # by so much logits differ at least when maps are exchanged


class Own(NamedTuple):
    """What a network itself makes of images."""

    logits: Tensor
    #: From feature maps (n, C, h, w) to logits; None where the classifier sees no feature maps.
    head: Callable[[Tensor], Tensor] | None
    tokens: Tensor | None  #: (n, t + h w, C) where feature maps are the last h w of them


@pytest.fixture(scope="session")
def rows() -> Iterator[dict[str, Row]]:
    """What was found, by name, in runs of some of the tests too; the page is written when all of it was."""
    found = {name: Row(*row) for name, row in json.loads(ROWS.read_text()).items()} if ROWS.exists() else {}
    yield found
    ROWS.write_text(json.dumps(found))
    if set(found) == set(NAMES):
        write_page(
            {name: found[name] for name in NAMES}, {"torch": torch, "torchvision": torchvision, "timm": timm}
        )


def test_all_families_of_timm_are_listed():
    assert list(TIMM) == timm.list_modules()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_own_pooling_and_classifier_make_the_own_logits(name: str, rows: dict[str, Row], tmp_path: Path):
    gc.collect()  # the network before this one
    rows.pop(name, None)  # of an earlier run
    torch.manual_seed(0)
    package, _, short = name.partition(":")
    make, run = {"torchvision": (_torchvision, _of_torchvision), "timm": (_timm, _of_timm)}[package]
    network, size, mean, std = make(short)
    images = torch.rand(2, 3, size, size) * torch.tensor([1.0, 0.3]).view(2, 1, 1, 1)
    prepared = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    _fill_zeros(network)
    if name not in REFUSED:
        _tell_apart(network, prepared)
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    try:
        if name in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[name]) as refusal:
                load_backbone(name, image_size=size, weights=str(weights))
            rows[name] = Row(family(network), size, refused=str(refusal.value))
            return
        backbone = load_backbone(name, image_size=size, weights=str(weights)).eval()
    finally:
        weights.unlink()
    rows[name] = _compared(network, size, backbone, images, run(network, prepared))


def _compared(network: nn.Module, size: int, backbone: Backbone, images: Tensor, own: Own) -> Row:
    maps = backbone(images)
    assert maps.shape[:2] == (2, backbone.channels)
    assert maps.shape[2] == maps.shape[3] < maps.shape[1]  # of square images, channels first
    assert not torch.equal(maps[0], maps[1])
    row = Row(family(network), size, tuple(maps.shape[1:]))
    if own.head is not None:
        error = _apart(own.head(maps), own.logits)
        exchanged = _apart(own.head(maps.flip(0)), own.logits)
        if exchanged > 0 or own.tokens is None:
            assert error <= TOLERANCE
            assert exchanged >= APART
            return row._replace(error=error, exchanged=exchanged)
    assert own.tokens is not None
    patches = own.tokens[:, -maps[0, 0].numel() :]
    error = _apart(maps.flatten(2).mT, patches)
    assert error <= TOLERANCE
    return row._replace(error=error, exchanged=_apart(patches.flip(0), patches), tokens=True)


def _torchvision(name: str) -> tuple[nn.Module, int, list[float], list[float]]:
    prepared = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    options = {"transform_input": True} if name in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(name, **options).eval()
    return network, SIZE, prepared.mean, prepared.std


def _of_torchvision(network: nn.Module, prepared: Tensor) -> Own:
    if family(network) == "vision_transformer":
        tokens: list[Tensor] = []
        handle = network.encoder.register_forward_hook(lambda layer, inputs, output: tokens.append(output))
        logits = network(prepared)
        handle.remove()
        return Own(logits, None, tokens[0])
    return Own(network(prepared), lambda maps: HEADS[family(network)](network, maps), None)


def _timm(name: str) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    network = timm.create_model(name).eval()
    data = timm.data.resolve_model_data_config(network)
    return network, data["input_size"][-1], data["mean"], data["std"]


def _of_timm(network: nn.Module, prepared: Tensor) -> Own:
    features = network.forward_features(prepared)

    def head(maps: Tensor) -> Tensor:
        if features.dim() == 3:
            rest = features.shape[1] - maps[0, 0].numel()
            return network.forward_head(torch.cat([features[:, :rest], maps.flatten(2).mT], 1))
        last = features.shape != maps.shape
        return network.forward_head(maps.permute(0, 2, 3, 1) if last else maps)

    return Own(network(prepared), head, features if features.dim() == 3 else None)


def _fill_zeros(network: nn.Module) -> None:
    """Weights that begin as zeros, some classifiers among them, would hide their inputs."""
    for parameter in network.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def _tell_apart(network: nn.Module, prepared: Tensor) -> None:
    """Batch statistics of these images, where all fade to the same under random weights."""
    logits = network(prepared)
    if _apart(logits.flip(0), logits) > 10 * APART:
        return
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
            layer.momentum = None  # the mean of all batches: of one
    network.train()
    network(prepared)
    network.eval()


def _apart(ours: Tensor, own: Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    assert ours.shape == own.shape
    return ((ours - own).abs().max() / own.abs().max()).item()
