"""A network from images to feature maps, and how its images are prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red, green, blue


class Standardize(nn.Module):
    """Images (n, 3, H, W) minus the mean of each colour, divided by its standard deviation."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardise images."""
        return (images - self.get_buffer("mean")) / self.get_buffer("std")


class Backbone(nn.Module):
    """A network from images to feature maps that knows how its images are prepared.

    Images are prepared by the network's own attribute `preprocess` where it has one, a callable from and to
    (n, 3, H, W); otherwise ImageNet's mean is subtracted and the result divided by its standard deviation.

    Attributes:
        body: the network.
        channels: C, channels of the feature maps.

    Args:
        body: the network, from prepared images (n, 3, H, W) to feature maps (n, C, h, w).
        image_size: side of the image that is passed through once, to learn C.

    Raises:
        ValueError: the network does not take such images, or does not give feature maps.
    """

    def __init__(self, body: nn.Module, image_size: int = 224) -> None:
        super().__init__()
        self.body = body
        self.standardize = Standardize(_MEAN, _STD)
        self.channels = self._dry_run(image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images float32 (n, 3, H, W), from 0 to 1, to feature maps (n, C, h, w)."""
        preprocess: Callable[[Tensor], Tensor] = getattr(self.body, "preprocess", self.standardize)
        maps: Tensor = self.body(preprocess(images))
        return maps

    def _dry_run(self, size: int) -> int:
        training = self.training
        self.eval()  # batch statistics stay as they are
        try:
            with torch.no_grad():
                maps = self(torch.zeros(1, 3, size, size))
        except RuntimeError as error:
            raise ValueError(f"backbone: does not take images of {size} x {size} pixels: {error}") from error
        finally:
            self.train(training)
        if not isinstance(maps, Tensor) or maps.dim() != 4:
            got = f"shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
            raise ValueError(f"backbone: expected feature maps (n, channels, height, width), got {got}")
        return maps.shape[1]
