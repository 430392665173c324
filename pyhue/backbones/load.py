"""Networks from images to feature maps, by name."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pyhue._runs.config import TrainConfig
from pyhue.backbones.backbone import Backbone, Standardize
from pyhue.backbones.resnet import ResNet18

_NAMES = (
    "resnet18[-3x3][-wWIDTH], a folder RUN/seed-S/fold-F of pyhue train, torchvision:NAME, timm:NAME, "
    "MODULE:FACTORY or FILE.py:FACTORY"
)
_TRAINED = "model.pt"  # weights that `pyhue train` leaves in the folder of a fold
_POOLING = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Dropout, nn.Flatten, nn.Linear)


def load_backbone(name: str, pretrained: bool = False, image_size: int = 224) -> Backbone:
    """Makes a network from images to feature maps.

    Args:
        name: one of

            - `"resnet18"`: an 18-layer residual network of our own; `"resnet18-3x3"` begins with one 3 x 3
              convolution instead of a 7 x 7 of stride 2 and a pooling, for images below 100 pixels;
              `"resnet18-w16"` has 16 channels instead of 64 in the first stage, and so on in the others;
              `"resnet18-3x3-w16"` is both.
            - a folder `RUN/seed-S/fold-F` of `pyhue train`: the trained backbone.
            - `"torchvision:NAME"`, `"timm:NAME"`: a network of these packages, without its pooling and
              classifier.
            - `"MODULE:FACTORY"`, `"FILE.py:FACTORY"`: what the function FACTORY of the module, which may be
              in the working directory, returns for no arguments: an nn.Module from images to feature maps.
        pretrained: with the weights that torchvision or timm offers; the other networks have none.
        image_size: side of the images that it is meant for, in pixels.

    Returns:
        The network; see :class:`Backbone`.

    Raises:
        ValueError: the name is unknown, the folder is damaged, or the network does not give feature maps.
        ImportError: the package or module cannot be imported.

    Example:
        >>> import torch
        >>> backbone = load_backbone("resnet18-3x3-w8", image_size=32)
        >>> backbone.channels, backbone(torch.rand(2, 3, 32, 32)).shape
        (64, torch.Size([2, 64, 4, 4]))
    """
    source, _, rest = name.rpartition(":")
    if source in ("torchvision", "timm"):
        body = (_torchvision if source == "torchvision" else _timm)(rest, pretrained)
        return Backbone(body, image_size)
    if pretrained:
        raise ValueError(f"pretrained: there are no pretrained weights of {name!r}")
    if (Path(name) / _TRAINED).is_file():
        return _from_run(Path(name))
    if source:
        return Backbone(_from_factory(source, rest), image_size)
    match = re.fullmatch(r"resnet18(-3x3)?(?:-w([1-9]\d{0,3}))?", name)
    if not match:
        raise ValueError(f"backbone: expected {_NAMES}, got {name!r}")
    return Backbone(ResNet18(small_stem=bool(match[1]), width=int(match[2] or 64)), image_size)


def _from_run(folder: Path) -> Backbone:
    options = folder.resolve().parents[1] / "config.json"
    try:
        config = TrainConfig.from_json(options.read_text())
        state = torch.load(folder / _TRAINED, map_location="cpu", weights_only=True)
        backbone = load_backbone(config.backbone, image_size=config.image_size)
        prefix = "backbone."
        backbone.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    except Exception as error:  # what torch raises on a damaged file depends on the damage
        raise ValueError(f"backbone: {folder} does not hold a trained network: {error}") from error
    return backbone


def _torchvision(name: str, pretrained: bool) -> nn.Module:
    models = _import("torchvision.models", "torchvision")
    network = _made(models.get_model, name, weights="DEFAULT" if pretrained else None)
    features = getattr(network, "features", None)
    if isinstance(features, nn.Module):
        return features
    layers = list(network.children())
    while layers and isinstance(layers[-1], _POOLING):
        layers.pop()
    return nn.Sequential(*layers)


class _Normalized(nn.Module):
    """A network whose images are prepared with its own mean and standard deviation of each colour."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.preprocess = Standardize(mean, std)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.network(images)
        return maps


def _timm(name: str, pretrained: bool) -> nn.Module:
    timm = _import("timm", "timm")
    network = _made(timm.create_model, name, pretrained=pretrained, num_classes=0, global_pool="")
    data = timm.data.resolve_model_data_config(network)
    return _Normalized(network, data["mean"], data["std"])


def _made(make: Callable[..., Any], name: str, **options: Any) -> nn.Module:
    try:
        network: nn.Module = make(name, **options)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"backbone: {name!r} cannot be made: {error}") from error
    return network


def _from_factory(source: str, factory: str) -> nn.Module:
    module = _from_file(Path(source)) if source.endswith(".py") else _import(source, None)
    make = getattr(module, factory, None)
    if not callable(make):
        raise ValueError(f"backbone: {source} has no function {factory!r}")
    network = make()
    if not isinstance(network, nn.Module):
        raise ValueError(f"backbone: {source}:{factory} gave {type(network).__name__}, expected nn.Module")
    return network


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"backbone: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _import(name: str, package: str | None) -> ModuleType:
    """The module, looked for in the working directory too; ImportError says what to install."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken torchvision raises RuntimeError
        hint = f"; install with: pip install {package}" if package else ""
        raise ImportError(f"backbone: {name} cannot be imported: {error}{hint}") from error
    finally:
        sys.path.remove(here)
