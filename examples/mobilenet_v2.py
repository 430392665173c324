"""MobileNetV2 1.0, ImageNet, as a backbone: the activations of its last convolution.

    PYHUE_DATA=... pyhue features IMAGES --backbone examples/mobilenet_v2.py:int8 --out features.safetensors

`PYHUE_DATA` names the folder that holds the weights, one npz file a network: `spec`, a row of kind, stride,
relu6 and residual for each layer; `wNN` and `bNN`, its weight and bias with batch norm folded in; where the
weights are int8, `sNN`, the scale of each output channel, and `rNN`, `aNN`, the range of the quantised output
and of the sum with the residual; `mean` and `std` of the input.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTION, _DEPTHWISE, _LINEAR = 0, 1, 2


def int8() -> nn.Module:
    """The network with int8 weights (evaluated in float32) of tflite-micro."""
    return MobileNetV2("mobilenetv2_imagenet_int8.npz")


def float32() -> nn.Module:
    """The network with float32 weights of mobilenet_v2_keras."""
    return MobileNetV2("mobilenetv2_imagenet_features_f32.npz")


class MobileNetV2(nn.Module):
    """The convolutions of MobileNetV2, with weights from a file of the folder `PYHUE_DATA`."""

    def __init__(self, file: str):
        super().__init__()
        folder = os.environ.get("PYHUE_DATA")
        if folder is None:
            raise ValueError(f"PYHUE_DATA: expected the folder that holds {file}, the variable is not set")
        with np.load(Path(folder) / file) as arrays:
            same_padding = bool(arrays["tfpad"])
            spec = [tuple(map(int, row)) for row in arrays["spec"] if row[0] != _LINEAR]
            self.layers = nn.ModuleList(
                _Layer(_read(arrays, number), *row, same_padding) for number, row in enumerate(spec)
            )
            for name in ("mean", "std"):
                self.register_buffer(name, torch.from_numpy(arrays[name]).reshape(3, 1, 1))

    def preprocess(self, images: Tensor) -> Tensor:
        """Images (n, 3, height, width), 0 to 1, as the network wants them."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Preprocessed images (n, 3, height, width) to activations (n, 1280, height / 32, width / 32)."""
        activation = block = images
        for layer in self.layers:
            activation = layer(activation, block)
            if layer.ends_block:
                block = activation
        return activation


class _Layer(nn.Module):
    """A convolution, then ReLU6 or, at the end of a block, the sum with what went into it."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        kind: int,
        stride: int,
        relu6: int,
        residual: int,
        same_padding: bool,
    ):
        super().__init__()
        weight, scale = torch.from_numpy(arrays["w"]).float(), arrays.get("s")
        if scale is not None:
            weight = weight * torch.from_numpy(scale).reshape(-1, 1, 1, 1)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.from_numpy(arrays["b"]), requires_grad=False)
        self.stride, self.residual, self.ends_block = stride, residual, not relu6
        self.groups = len(weight) if kind == _DEPTHWISE else 1
        self.range = (0.0, 6.0) if relu6 else None
        self.output_range = tuple(map(float, arrays["r"])) if "r" in arrays else None
        self.sum_range = tuple(map(float, arrays["a"])) if "a" in arrays else None
        margin = (weight.shape[-1] - 1) // 2  # TensorFlow's "same" at stride 2 pads only right and below
        before = 0 if same_padding and stride == 2 else margin
        self.padding = (before, margin, before, margin)

    def forward(self, activation: Tensor, block: Tensor) -> Tensor:
        padded = functional.pad(activation, self.padding)
        result = functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)
        for bounds in (self.range, self.output_range):
            if bounds:
                result = result.clamp(*bounds)
        if self.residual:
            result = result + block
            if self.sum_range:
                result = result.clamp(*self.sum_range)
        return result


def _read(arrays: np.lib.npyio.NpzFile, number: int) -> dict[str, np.ndarray]:
    """The arrays of one layer: w, b and, where there are, s, r and a."""
    return {letter: arrays[name] for letter in "wbsra" if (name := f"{letter}{number:02d}") in arrays}
