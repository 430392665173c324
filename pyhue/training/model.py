"""The network of a training and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pyhue._runs.config import TrainConfig
from pyhue.backbones import Backbone, load_backbone
from pyhue.nn import HueCrossEntropyLoss, HueHead, hue_labels
from pyhue.nn._ops import computes_on

_NARROW = 16  # channels: a register of AVX-512; seen with 4 and 8


def backbone_of(config: TrainConfig) -> Backbone:
    """The backbone of the options, as a training begins with it."""
    return load_backbone(config.backbone, config.pretrained, config.image_size, config.layer, config.weights)


def memory_format(network: nn.Module) -> torch.memory_format:
    """How images and weights lie: channels last, up to 1.4 times as fast, on CPUs too.

    But where a convolution of one pixel and few channels has a stride: there the backward of torch's oneDNN
    (seen in 2.13, with AVX-512) writes beyond its memory. No network of usual width has one.
    """
    narrow = (
        module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels < _NARROW
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    )
    return torch.contiguous_format if any(narrow) else torch.channels_last


class Classifier(nn.Module):
    """A backbone, the average of its feature maps, and linear layers.

    Backbone and classifier start from the same weights whether there is a hue layer or not, because that
    layer draws its weights last: runs that differ in their loss start equal. What the feature maps do not
    depend on, the layers behind them that a backbone may have, is not trained.

    Args:
        config: options of the run.
        num_classes: C.
    """

    def __init__(self, config: TrainConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone_of(config)
        channels = self.backbone.channels
        hue = config.loss == "onehot+hue"
        self.head = HueHead(channels, num_classes) if hue else nn.Linear(channels, num_classes)
        _freeze_unused(self.backbone, config.image_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (n, C) and hue (n, 2), or None without a hue layer, of images (n, 3, H, W), 0 to 1."""
        features = self.backbone(images).mean(dim=(2, 3))
        if isinstance(self.head, HueHead):
            logits, hue = self.head(features)
            return logits, hue
        return self.head(features), None


def _freeze_unused(backbone: Backbone, image_size: int) -> None:
    """Freezes what gets no gradient, for which processes that train together would wait."""
    backbone.eval()  # batch statistics stay as they are
    maps = backbone(torch.zeros(1, 3, image_size, image_size))
    if maps.requires_grad:
        maps.sum().backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    backbone.train()


class Loss(nn.Module):
    """The loss of the options: one-hot cross-entropy, alone or with the hue term.

    Args:
        config: options of the run.
        num_classes: C.
        seed: of the hue labels.
        device: of the logits. Where the hue loss has no kernel for it, they come over to the CPU.
    """

    def __init__(self, config: TrainConfig, num_classes: int, seed: int, device: torch.device) -> None:
        super().__init__()
        self._smoothing = config.label_smoothing
        labels = hue_labels(num_classes, config.hue_labels, torch.Generator().manual_seed(seed))
        self._hue = HueCrossEntropyLoss(
            num_classes,
            labels=labels,
            hue_weight=config.hue_weight,
            hue_scale=config.hue_scale,
            label_smoothing=config.label_smoothing,
        )
        self._device = device if computes_on(device) else torch.device("cpu")
        self._hue.to(self._device)

    def forward(self, logits: Tensor, hue: Tensor | None, target: Tensor) -> Tensor:
        """The mean over the batch, float32."""
        if hue is None:
            return cross_entropy(logits.float(), target, label_smoothing=self._smoothing)
        own = self._device
        loss: Tensor = self._hue(logits.float().to(own), hue.float().to(own), target.to(own))
        return loss.to(logits.device)
