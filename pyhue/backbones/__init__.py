"""Backbones: networks from images to feature maps."""

from pyhue.backbones.backbone import Backbone
from pyhue.backbones.load import load_backbone

__all__ = ["Backbone", "load_backbone"]
