"""Descriptors of images made from feature maps, and how well each classifies.

A descriptor turns feature maps (images, channels, H, W) into one vector for each image; the vectors are
compared at unit length, as `PixelMemory` does it.
"""

from pyhue.descriptors.evaluate import Result, evaluate
from pyhue.descriptors.pooling import average, flatten, gem, maximum, rmac
from pyhue.descriptors.principal import Principal
from pyhue.descriptors.vlad import vlad, vocabulary

__all__ = [
    "Principal",
    "Result",
    "average",
    "evaluate",
    "flatten",
    "gem",
    "maximum",
    "rmac",
    "vlad",
    "vocabulary",
]
