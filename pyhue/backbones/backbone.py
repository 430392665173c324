"""A network from images to feature maps, and how its images are prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyhue.backbones.layers import Layer
from pyhue.backbones.layouts import find_layout

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red, green, blue

#: What torch and networks raise for images that do not suit them.
UNSUITABLE = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)


class Standardize(nn.Module):
    """Images (n, 3, H, W) minus the mean of each colour, divided by its standard deviation."""

    def __init__(self, mean: Sequence[float] = _MEAN, std: Sequence[float] = _STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardise images."""
        return (images - self.get_buffer("mean")) / self.get_buffer("std")


class Backbone(nn.Module):
    """A network from images to feature maps that knows how its images are prepared.

    Images are prepared by the network's own attribute `preprocess` where it has one, a callable from and to
    (n, 3, H, W), otherwise by `standardize`.

    The network gives feature maps (n, C, s, s), or channels last, (n, s, s, C), which are turned, or the
    tokens of a transformer, (n, t + s^2, C), of which the first t = `num_prefix_tokens`, an attribute of the
    network, 0 if there is none, are left out. Other floating-point numbers become float32.

    Attributes:
        body: the network.
        channels: C, channels of the feature maps.

    Args:
        body: the network.
        image_size: side of the image that is passed through once, to learn C.
        layer: a module of the network, by its name in `body.named_modules()`, whose output is taken instead
            of the network's: that of the last call.
        standardize: prepares images; by default ImageNet's mean is subtracted and the result divided by its
            standard deviation.

    Raises:
        ValueError: the network has no such layer, does not take such images, or does not give feature maps.
    """

    def __init__(
        self,
        body: nn.Module,
        image_size: int = 224,
        layer: str | None = None,
        standardize: Standardize | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.standardize = standardize or Standardize()
        self._layer = None if layer is None else Layer(body, layer)
        output = self._dry_run(image_size)
        if self._layer and output is None:
            raise ValueError(self._layer.uncalled(body))
        try:
            tokens = getattr(body, "num_prefix_tokens", 0)
            self._layout = find_layout(output, tokens, sure=layer is None)
        except ValueError as error:
            raise ValueError(f"{'backbone' if layer is None else f'layer {layer!r}'}: {error}") from None
        self.channels = self._layout(output).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Maps images float32 (n, 3, H, W), from 0 to 1, to feature maps (n, C, h, w)."""
        maps = self._layout(self._output(images))
        if len(maps) != len(images):
            raise ValueError(f"backbone: gave maps of {len(maps)} images for {len(images)}")
        return maps

    def _output(self, images: Tensor) -> Tensor:
        preprocess: Callable[[Tensor], Tensor] = getattr(self.body, "preprocess", self.standardize)
        prepared = preprocess(images)
        output: Any = self._layer(self.body, prepared) if self._layer else self.body(prepared)
        maps: Tensor = output
        return maps

    def _dry_run(self, size: int) -> Tensor:
        training = self.training
        self.eval()  # batch statistics stay as they are
        try:
            with torch.no_grad():
                return self._output(torch.zeros(1, 3, size, size))
        except UNSUITABLE as error:
            why = str(error) or type(error).__name__
            raise ValueError(f"backbone: does not take images of {size} x {size} pixels: {why}") from error
        finally:
            self.train(training)
