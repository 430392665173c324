import sys
import types

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from pyhue.backbones import Backbone, load_backbone


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet18", 64, (512, 2, 2)),
        ("resnet18-3x3-w8", 32, (64, 4, 4)),
        ("resnet18-w16", 96, (128, 3, 3)),
        ("resnet18-3x3", 16, (512, 2, 2)),
    ],
)
def test_own_networks(name, size, shape):
    backbone = load_backbone(name, image_size=size)
    assert backbone.channels == shape[0]
    assert backbone(torch.rand(2, 3, size, size)).shape == (2, *shape)


def test_resnet18_has_the_parameters_of_the_original():
    count = sum(p.numel() for p in load_backbone("resnet18").parameters())
    assert count == 11_689_512 - 513_000  # without the classifier of 1,000 classes


def test_images_are_standardised_unless_the_network_prepares_them():
    means = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    body = nn.Identity()
    assert Backbone(body, 8)(means).abs().max() < 1e-6
    body.preprocess = lambda images: images * 2 + 1
    torch.testing.assert_close(Backbone(body, 8)(means), means * 2 + 1)


def test_the_dry_run_leaves_batch_statistics_and_mode_alone():
    backbone = Backbone(nn.BatchNorm2d(3), 8)
    assert backbone.training
    assert backbone.body.running_mean.abs().max() == 0


@pytest.mark.parametrize("name", ["resnet", "resnet18-w0", "resnet18-7x7", "", "resnet50"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"backbone: expected resnet18"):
        load_backbone(name)


def test_only_packages_have_pretrained_weights():
    with pytest.raises(ValueError, match="no pretrained weights of 'resnet18'"):
        load_backbone("resnet18", pretrained=True)


FACTORIES = """
import torch
def maps(): return torch.nn.Conv2d(3, 5, 3)
def vectors(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
def number(): return 3
def failing(): return torch.nn.Conv2d(4, 5, 3)
"""


@pytest.mark.parametrize("as_file", [True, False])
def test_factories(tmp_path, monkeypatch, as_file):
    (tmp_path / "own_networks.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    source = str(tmp_path / "own_networks.py") if as_file else "own_networks"
    assert load_backbone(f"{source}:maps", image_size=8).channels == 5
    with pytest.raises(ValueError, match=r"expected feature maps .* got shape \(1, 4\)"):
        load_backbone(f"{source}:vectors", image_size=8)
    with pytest.raises(ValueError, match=r"gave int, expected nn\.Module"):
        load_backbone(f"{source}:number")
    with pytest.raises(ValueError, match="does not take images of 8 x 8 pixels"):
        load_backbone(f"{source}:failing", image_size=8)
    with pytest.raises(ValueError, match="has no function 'absent'"):
        load_backbone(f"{source}:absent")
    assert sys.path == path
    sys.modules.pop("own_networks", None)


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(ImportError, match="no_such_module cannot be imported"):
        load_backbone("no_such_module:make")
    with pytest.raises(ValueError, match="there is no file"):
        load_backbone(f"{tmp_path / 'absent.py'}:make")


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        load_backbone(f"{package}:resnet18")


class Layered(nn.Module):
    """Has the children of a torchvision ResNet."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 10)


class WithFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 7, 3)
        self.classifier = nn.Linear(7, 10)


@pytest.mark.parametrize(("network", "channels"), [(Layered, 6), (WithFeatures, 7)])
def test_torchvision_networks_lose_pooling_and_classifier(network, channels, monkeypatch):
    asked = {}

    def get_model(name, weights):
        asked.update(name=name, weights=weights)
        return network()

    models = types.ModuleType("torchvision.models")
    models.get_model = get_model
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    assert load_backbone("torchvision:some", pretrained=True, image_size=16).channels == channels
    assert asked == {"name": "some", "weights": "DEFAULT"}


def test_timm_networks_bring_their_own_mean(monkeypatch):
    def create_model(name, pretrained, num_classes, global_pool):
        assert (name, pretrained, num_classes, global_pool) == ("some", False, 0, "")
        return nn.Identity()

    timm = types.ModuleType("timm")
    timm.create_model = create_model
    config = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0)}
    timm.data = types.SimpleNamespace(resolve_model_data_config=lambda network: config)
    monkeypatch.setitem(sys.modules, "timm", timm)
    maps = load_backbone("timm:some", image_size=8)(torch.ones(1, 3, 8, 8))
    assert maps[0, :, 0, 0].tolist() == [2, 1, 0.5]
