"""Networks from images to feature maps, by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pyhue._runs.results import load_config
from pyhue._text import printable
from pyhue.backbones.backbone import Backbone
from pyhue.backbones.factories import from_factory
from pyhue.backbones.packages import from_timm, from_torchvision
from pyhue.backbones.resnet import ResNet18
from pyhue.backbones.weights import load_state, load_weights, read_weights

_NAMES = (
    "resnet18[-3x3][-wWIDTH], a folder RUN/seed-S/fold-F of pyhue train, torchvision:NAME, timm:NAME, "
    "MODULE:FACTORY or FILE.py:FACTORY"
)
_TRAINED = "model.pt"  # weights that `pyhue train` leaves in the folder of a fold
_PACKAGES = {"torchvision": from_torchvision, "timm": from_timm}


def load_backbone(
    name: str,
    pretrained: bool = False,
    image_size: int = 224,
    layer: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Backbone:
    """Makes a network from images to feature maps.

    Args:
        name: one of

            - `"resnet18"`: an 18-layer residual network of our own; `"resnet18-3x3"` begins with one 3 x 3
              convolution instead of a 7 x 7 of stride 2 and a pooling, for images below 100 pixels;
              `"resnet18-w16"` has 16 channels instead of 64 in the first stage, and so on in the others;
              `"resnet18-3x3-w16"` is both.
            - a folder `RUN/seed-S/fold-F` of `pyhue train`: the trained backbone.
            - `"torchvision:NAME"`, `"timm:NAME"`: a network of these packages, up to what enters its own
              pooling; of vision transformers the patch tokens.
            - `"MODULE:FACTORY"`, `"FILE.py:FACTORY"`: what the function FACTORY of the module, which may be
              in the working directory, returns for no arguments: an nn.Module from images to feature maps.
        pretrained: with the weights that torchvision or timm offers; the other networks have none.
        image_size: side of the images that it is meant for, in pixels.
        layer: a layer of the network whose output is taken instead: the name of a module, "layer2.0" for
            example. None takes what enters the pooling, or in a trained folder what the run took.
        weights: a file with the network's weights, safetensors or a state_dict that `torch.save` wrote, or a
            checkpoint with one. Its classifier may be of any number of classes, and all of its names may
            begin with what the network's do not.

    Returns:
        The network; see :class:`Backbone`.

    Raises:
        OSError: the file of the weights cannot be read.
        ValueError: the name or the layer is unknown, the folder or file is damaged, or the network does not
            take such images or give feature maps.
        ImportError: the package or module cannot be imported.

    Example:
        >>> import torch
        >>> backbone = load_backbone("resnet18-3x3-w8", image_size=32)
        >>> backbone.channels, backbone(torch.rand(2, 3, 32, 32)).shape
        (64, torch.Size([2, 64, 4, 4]))
    """
    if pretrained and weights is not None:
        raise ValueError("weights: expected none beside pretrained ones")
    source, _, rest = name.partition(":")
    if source in _PACKAGES:
        return _PACKAGES[source](rest, pretrained, image_size, layer, weights)
    if pretrained:
        raise ValueError(f"pretrained: there are no pretrained weights of {name!r}")
    if (Path(name) / _TRAINED).is_file():
        if weights is not None:
            raise ValueError(f"weights: expected none, {printable(name)} has its own")
        return _from_run(Path(name), layer)
    source, _, rest = name.rpartition(":")
    match = re.fullmatch(r"resnet18(-3x3)?(?:-w([1-9]\d{0,3}))?", name)
    if source:
        network = from_factory(source, rest)
    elif match:
        network = ResNet18(small_stem=bool(match[1]), width=int(match[2] or 64))
    else:
        raise ValueError(f"backbone: expected {_NAMES}, got {name!r}")
    if weights is not None:
        load_weights(network, weights)
    return Backbone(network, image_size, layer)


def _from_run(folder: Path, layer: str | None) -> Backbone:
    options, trained = folder.resolve().parents[1] / "config.json", folder / _TRAINED
    config = load_config(options)
    state = read_weights(trained, "the weights of a trained network")
    try:
        backbone = load_backbone(config.backbone, image_size=config.image_size, layer=layer or config.layer)
    except ValueError as error:
        raise ValueError(f"{printable(options)}: {error}") from None
    prefix = "backbone."
    try:
        load_state(backbone, {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)})
    except ValueError as error:
        raise ValueError(f"{printable(trained)} {error}") from error
    return backbone
