"""Random flips and crops, by kornia."""

from __future__ import annotations

import warnings

from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's about its own scripting, which kornia calls
    from kornia.augmentation import RandomCrop, RandomHorizontalFlip


def augmentation(size: int) -> nn.Module:
    """A module that flips each image with probability 1/2 and cuts a random window from it.

    Images are padded by an eighth of their side, mirrored at the border, so a window is the image moved by up
    to an eighth. Randomness is torch's own: the same `torch.manual_seed`, the same result.

    Args:
        size: side of the images (n, 3, size, size), 0 to 1, and of the result.
    """
    return nn.Sequential(
        RandomHorizontalFlip(p=0.5),
        RandomCrop((size, size), padding=size // 8, padding_mode="reflect"),
    )
