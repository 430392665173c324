"""The hue loss for torch: labels on the circle, a head that predicts hue, and the fused loss."""

from pyhue.nn import _ops as _ops  # first: without torch or its operators this says what to do
from pyhue.nn import functional
from pyhue.nn.functional import hue_labels
from pyhue.nn.modules import HueClassifier, HueCrossEntropyLoss, HueHead

__all__ = ["HueClassifier", "HueCrossEntropyLoss", "HueHead", "functional", "hue_labels"]
