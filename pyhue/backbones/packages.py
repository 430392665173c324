"""Networks of torchvision and timm, up to what enters their own pooling."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pyhue._stderr import outputs_as_notes
from pyhue._text import printable
from pyhue.backbones.backbone import UNSUITABLE, Backbone, Standardize
from pyhue.backbones.factories import import_module
from pyhue.backbones.pooling import before_pooling
from pyhue.backbones.weights import load_weights, prefixes, read_weights, require_numbers, without_prefix

#: Networks of torchvision that turn standardised images into what their weights were trained with.
_TRANSFORMS_INPUT = ("googlenet", "inception_v3")


def from_torchvision(
    name: str, pretrained: bool, image_size: int, layer: str | None, weights: str | os.PathLike[str] | None
) -> Backbone:
    """The classification network `name` of torchvision; arguments as of `load_backbone`.

    Images are standardised as torchvision's own weights of that network ask.
    """
    models = import_module("torchvision.models", "torchvision")
    _require(name, "torchvision", models.list_models(module=models))
    own = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = {"weights": own} if pretrained else {}
    if name in _TRANSFORMS_INPUT:  # whatever weights: those of a trained folder come later
        options["transform_input"] = True
    if name.startswith("vit_"):
        options["image_size"] = image_size
    elif name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    file = Path(torch.hub.get_dir()) / "checkpoints" / own.url.rpartition("/")[2]
    hint = f"it needs {own.url} as {file}, or elsewhere, named by --weights" if pretrained else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that initial weights may be others one day
        network = _made(f"torchvision:{name}", hint, lambda: models.get_model(name, **options))
    names = network.state_dict().keys()
    body = before_pooling(network)
    body.num_prefix_tokens = int(hasattr(network, "class_token"))  # type: ignore[assignment]
    if weights is not None:
        load_weights(body, weights, names)
    prepared = own.transforms()
    return Backbone(body, image_size, layer, Standardize(prepared.mean, prepared.std))


def from_timm(
    name: str, pretrained: bool, image_size: int, layer: str | None, weights: str | os.PathLike[str] | None
) -> Backbone:
    """The network `name` of timm without its classifier; arguments as of `load_backbone`.

    Feature maps are what timm calls so: the result of `forward_features`. Weights in a file are adapted as
    timm adapts those that it offers.
    """
    timm = import_module("timm", "timm")
    _require(name.partition(".")[0], "timm", timm.list_models())
    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # no such tag
        close = _close(name, timm.list_pretrained())
        raise ValueError(f"backbone: timm has no weights {name!r}; {close}") from None
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    hint = ""
    if config.fixed_input_size:
        options["img_size"] = image_size
    if weights is not None:
        state = read_weights(weights)
        if len(prefixes(state)) > 1:
            own = _made(f"timm:{name}", "", lambda: timm.create_model(name, **options)).state_dict()
            state = without_prefix(state, own)
        # Of as many classes as the network, so that timm misses no other weight without a word.
        state = {key: value for key, value in state.items() if not _classifies(key, config)}
        overlay = {"state_dict": state, "num_classes": 0, "label_offset": 0}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    elif pretrained:
        where = f"of huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
        file = config.hf_hub_filename or "model.safetensors"
        hint = f"it needs {file} {where}; once that file is here, --weights names it"
    what = f"timm:{name}" + (f" with {printable(os.fsdecode(weights))}" if weights is not None else "")
    network = _made(what, hint, lambda: timm.create_model(name, **options))
    if weights is not None:
        try:
            require_numbers(network, state)
        except ValueError as error:
            raise ValueError(f"weights: {printable(os.fsdecode(weights))} {error}") from error
    if not hasattr(network, "num_prefix_tokens"):
        token = getattr(network, "cls_token", None)
        network.num_prefix_tokens = 0 if token is None else token.shape[1]  # type: ignore[assignment]
    network.forward = network.forward_features  # type: ignore[assignment]  # names of layers and weights stay timm's
    data = timm.data.resolve_model_data_config(network)
    return Backbone(network, image_size, layer, Standardize(data["mean"], data["std"]))


def _classifies(key: str, config: Any) -> bool:
    """Whether a weight is of the classifier; some are batch normalisation and a linear layer side by side."""
    names = (config.classifier,) if isinstance(config.classifier, str) else config.classifier or ()
    heads = [name.removesuffix(".linear").removesuffix(".l") for name in names]
    return any(key.startswith(f"{head}.") for head in heads)


def _require(name: str, package: str, names: Iterable[str]) -> None:
    if name not in names:
        raise ValueError(f"backbone: {package} has no classification network {name!r}; {_close(name, names)}")


def _close(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(names), 5, 0.5)
    return f"similar: {', '.join(found)}" if found else "nor one with a similar name"


def _made(name: str, hint: str, make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` makes; `hint` says how to do without what cannot be read or downloaded."""
    try:
        with outputs_as_notes():  # torch.hub tells of downloads on stdout
            return make()
    except (OSError, *UNSUITABLE) as error:
        why = str(error) or type(error).__name__
        more = f"; {hint}" if hint and isinstance(error, OSError) else ""
        raise ValueError(f"backbone: {name} cannot be made: {why}{more}") from error
