"""For torch: the hue loss, with its labels and the head that predicts hue, and a memory as a layer."""

from pyhue.nn import _ops as _ops  # first: without torch or its operators this says what to do
from pyhue.nn import functional
from pyhue.nn.functional import hue_labels
from pyhue.nn.memory import MemoryClassifier
from pyhue.nn.modules import HueClassifier, HueCrossEntropyLoss, HueHead

__all__ = ["HueClassifier", "HueCrossEntropyLoss", "HueHead", "MemoryClassifier", "functional", "hue_labels"]
