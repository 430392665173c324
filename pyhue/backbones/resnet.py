"""An 18-layer residual network without its classifier, after He et al., arXiv 1512.03385, table 1."""

from __future__ import annotations

from torch import Tensor, nn

_DOUBLINGS = 4  # stages; each has twice the channels of the one before, and two blocks


class ResNet18(nn.Module):
    """Images (n, 3, H, W) to feature maps (n, 8 width, H / 32, W / 32), not negative.

    Args:
        small_stem: begin with one 3 x 3 convolution of stride 1, for small images: maps of H / 8 x W / 8.
        width: channels of the first stage.
    """

    def __init__(self, small_stem: bool = False, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False)
            if small_stem
            else nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        if not small_stem:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        channels = width
        for stage in range(_DOUBLINGS):
            wider = width << stage
            layers += [_Block(channels, wider, 1 if stage == 0 else 2), _Block(wider, wider, 1)]
            channels = wider
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Compute the feature maps."""
        maps: Tensor = self.layers(images)
        return maps


class _Block(nn.Module):
    """Two 3 x 3 convolutions, added to their input or, where the shape changes, to its projection."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(inplace=True),
            nn.Conv2d(wider, wider, 3, padding=1, bias=False),
            nn.BatchNorm2d(wider),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != wider:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, wider, 1, stride=stride, bias=False), nn.BatchNorm2d(wider)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.relu(self.shortcut(maps) + self.residual(maps), inplace=True)
