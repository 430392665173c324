"""What torchvision's networks do to their feature maps, family by family, read in their sources."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

#: From a network and its feature maps to its logits.
Head = Callable[[nn.Module, Tensor], Tensor]


def _pooled(classifier: str) -> Head:
    return lambda network, maps: getattr(network, classifier)(network.avgpool(maps).flatten(1))


HEADS: dict[str, Head] = {
    "alexnet": _pooled("classifier"),
    "convnext": lambda network, maps: network.classifier(network.avgpool(maps)),
    "densenet": lambda network, maps: network.classifier(adaptive_avg_pool2d(maps, 1).flatten(1)),
    "efficientnet": _pooled("classifier"),
    "googlenet": _pooled("fc"),
    "inception": _pooled("fc"),
    "maxvit": lambda network, maps: network.classifier(maps),
    "mnasnet": lambda network, maps: network.classifier(maps.mean([2, 3])),
    "mobilenetv2": lambda network, maps: network.classifier(adaptive_avg_pool2d(maps, 1).flatten(1)),
    "mobilenetv3": _pooled("classifier"),
    "regnet": _pooled("fc"),
    "resnet": _pooled("fc"),
    "shufflenetv2": lambda network, maps: network.fc(maps.mean([2, 3])),
    "squeezenet": lambda network, maps: network.classifier(maps).flatten(1),
    "swin_transformer": _pooled("head"),
    "vgg": _pooled("classifier"),
}


def family(network: nn.Module) -> str:
    """The module of torchvision or timm that a network is defined in."""
    return type(network).__module__.rpartition(".")[2]
