"""The hue loss in plain torch: reads like the formula, and is the oracle of the tests."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyhue.nn.functional import hue_labels

# Rows of three logits at which a softmax goes wrong easily; float16 has all of them.
UGLY_LOGITS = [
    [math.inf, 0, 1],
    [-math.inf, 0, 1],
    [0, -math.inf, 1],
    [-math.inf, -math.inf, -math.inf],
    [math.nan, 0, 1],
    [math.nan, -math.inf, -math.inf],
    [math.inf, -math.inf, 0],
    [6e4, -6e4, 0],
    [-3e4, -3e4, -3.1e4],
]


def hue_distances(hue: Tensor, labels: Tensor) -> Tensor:
    """hue (N, 2, ...) or (N, C, 2, ...), labels (C, 2) -> (N, C, ...); the gradient at distance 0 is 0."""
    difference = hue - labels.reshape(1, *labels.shape, *[1] * (hue.dim() - 3))
    squared = difference.square().sum(2)
    positive = squared != 0  # a NaN stays
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


def reference_hue_cross_entropy(
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
    hue_weight: float = 1.0,
    hue_scale: float | None = None,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    **options: Any,
) -> Tensor:
    """In float64, whatever the arguments are."""
    input, hue, labels = input.double(), hue.double(), labels.double()
    if target.is_floating_point():
        target = target.double()
    if options.get("weight") is not None:
        options["weight"] = options["weight"].double()
    if input.dim() == hue.dim():
        hue = hue.unsqueeze(-2 if input.dim() == 1 else 1)
    distances = hue_distances(hue[None], labels)[0] if input.dim() == 1 else hue_distances(hue, labels)
    scale = 1 / (2 * len(labels)) if hue_scale is None else hue_scale
    if softcap is not None:
        input = softcap * torch.tanh(input / softcap)
    loss = F.cross_entropy(input, target, **options) + hue_weight * F.cross_entropy(
        -scale * distances, target, **options
    )
    if lse_square_scale == 0:
        return loss
    return loss + lse_square_scale * mean_square_lse(input, target, **options)


def mean_square_lse(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Of the rows, each of which counts as much as the weight of its class: their squared log-sum-exp."""
    square = input.logsumexp(min(input.dim() - 1, 1)).square()
    if target.is_floating_point():
        counts = torch.ones_like(square)
    else:
        counted = target != ignore_index
        of_class = torch.ones(input.shape[min(input.dim() - 1, 1)]) if weight is None else weight
        counts = of_class.double()[torch.where(counted, target, 0)] * counted
        square = torch.where(counted, square, 0)
    if reduction == "none":
        return counts * square
    return (counts * square).sum() / (counts.sum() if reduction == "mean" else 1)


def small_example(rows: int = 4, classes: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Input and hue that require gradients, classes as target, labels on the circle."""
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(rows, classes, dtype=dtype, generator=generator, requires_grad=True)
    hue = torch.randn(rows, 2, dtype=dtype, generator=generator, requires_grad=True)
    labels = hue_labels(classes, generator=generator).to(dtype)
    return [input, hue, torch.randint(classes, (rows,), generator=generator), labels]
