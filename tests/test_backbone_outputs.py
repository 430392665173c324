"""What a network gives is taken as it was meant, or refused when it is made: before images are read."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from pyhue.backbones import Backbone
from pyhue.features import extract_features
from pyhue.images import scan_images


class Gives(nn.Module):
    """Four channels of maps of a quarter, and what `change` makes of them."""

    def __init__(self, change):
        super().__init__()
        torch.manual_seed(0)
        self.maps, self.change = nn.Conv2d(3, 4, 4, 4), change

    def forward(self, x):
        return self.change(self.maps(x))


class Bfloat16(nn.Module):
    """As a network that was saved in 16 bits: its weights are bfloat16."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Conv2d(3, 4, 4, 4).bfloat16()

    def forward(self, x):
        return self.maps(x.bfloat16())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("turned", [False, True])
def test_maps_of_other_floating_point_numbers_become_float32(dtype, turned):
    body = Gives(lambda maps: (maps.permute(0, 2, 3, 1) if turned else maps).to(dtype))
    images = torch.rand(2, 3, 32, 32)
    backbone = Backbone(body, 32)
    maps = backbone(images)
    assert maps.dtype == torch.float32
    expected = body.maps(backbone.standardize(images)).to(dtype).float()
    torch.testing.assert_close(maps, expected, rtol=0, atol=0)


def test_under_autocast_maps_stay_of_16_bits():
    backbone = Backbone(Gives(lambda maps: maps), 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert backbone(torch.rand(1, 3, 32, 32)).dtype == torch.bfloat16


def test_features_of_a_network_of_bfloat16(tmp_path):
    from pictures import write_pictures

    root = write_pictures(tmp_path / "images", 2)
    images, backbone = scan_images(root), Backbone(Bfloat16(), 16)
    found = extract_features(images, root, backbone, tmp_path / "f.safetensors", {}, 16)
    assert found.activations.shape == (6, 4, 4, 4)
    assert np.isfinite(found.activations).all()
    with torch.no_grad():  # other weights, another digest
        backbone.body.maps.weight[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="exists already, made from something else"):
        extract_features(images, root, backbone, tmp_path / "f.safetensors", {}, 16)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda maps: torch.complex(maps, maps), r"of floating-point numbers, got torch\.complex64"),
        (lambda maps: (9 * maps).int(), r"of floating-point numbers, got torch\.int32"),
        (lambda maps: maps > 0, r"of floating-point numbers, got torch\.bool"),
        (lambda maps: maps[:, :0], r"got shape \(1, 0, 8, 8\), in which there is nothing"),
        (lambda maps: maps[:, :, :0, :0], r"got shape \(1, 4, 0, 0\), in which there is nothing"),
        (lambda maps: maps.flatten(2).mT[..., :0], r"got shape \(1, 64, 0\), in which there is nothing"),
    ],
)
def test_what_is_no_map_of_real_numbers_is_refused(change, what):
    with pytest.raises(ValueError, match=rf"^backbone: expected feature maps .*{what}$"):
        Backbone(Gives(change), 32)


@pytest.mark.parametrize("tokens", [69, 65, 63])
def test_tokens_that_are_no_square_are_refused_with_what_helps(tokens):
    body = Gives(lambda maps: torch.cat([maps.flatten(2).mT] * 2, 1)[:, :tokens])
    what = (
        rf"got shape \(1, {tokens}, 4\) with a prefix of 0, which the network's attribute num_prefix_tokens"
    )
    with pytest.raises(ValueError, match=what):
        Backbone(body, 32)
    if tokens > 64:
        body.num_prefix_tokens = tokens - 64
        assert Backbone(body, 32)(torch.rand(2, 3, 32, 32)).shape == (2, 4, 8, 8)


class Holds(nn.Module):
    """A network that calls what its containers hold, not the containers."""

    def __init__(self):
        super().__init__()
        self.list = nn.ModuleList([nn.Conv2d(3, 4, 4, 4)])
        self.many = nn.ModuleDict({name: nn.Conv2d(4, 4, 1) for name in "abcde"})
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.list[0](x)
        for part in self.many.values():
            x = part(x)
        return x


@pytest.mark.parametrize(
    ("layer", "inside"),
    [
        ("list", r"; inside are list\.0"),
        ("many", r"; inside are many\.a, many\.b, many\.c and 2 more"),
        ("unused", ""),
    ],
)
def test_of_a_layer_that_is_not_called_those_inside_are_named(layer, inside):
    with pytest.raises(ValueError, match=rf"^layer '{layer}': the network does not call it{inside}$"):
        Backbone(Holds(), 32, layer)
    assert Backbone(Holds(), 32, "list.0").channels == 4


def test_as_many_maps_as_images():
    backbone = Backbone(Gives(lambda maps: maps.mean(0, keepdim=True)), 32)
    with pytest.raises(ValueError, match=r"^backbone: gave maps of 1 images for 2$"):
        backbone(torch.rand(2, 3, 32, 32))
