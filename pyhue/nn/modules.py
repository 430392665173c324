"""Modules: the head that predicts logits and hue, and the loss."""

from torch import Tensor, nn

from pyhue.nn.functional import hue_cross_entropy, hue_labels


class HueHead(nn.Module):
    """Two linear layers on the same features: one gives the logits, one the point that predicts hue.

    Args:
        in_features: F, channels of the bottleneck.
        num_classes: C.
        bias: whether both layers have a bias.

    Example:
        >>> import torch
        >>> logits, hue = HueHead(512, 10)(torch.zeros(3, 512))
        >>> logits.shape, hue.shape
        (torch.Size([3, 10]), torch.Size([3, 2]))
    """

    def __init__(self, in_features: int, num_classes: int, bias: bool = True) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_features, num_classes, bias=bias)
        self.hue = nn.Linear(in_features, 2, bias=bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (N, F) to logits (N, C) and hue (N, 2)."""
        return self.classifier(features), self.hue(features)


class HueCrossEntropyLoss(nn.Module):
    """The hue loss with its labels; see :func:`pyhue.nn.functional.hue_cross_entropy`.

    Args:
        num_classes: C.
        labels: hue labels (C, 2); None draws them with :func:`pyhue.nn.hue_labels`. They are a buffer, so
            they are saved with the module.
        hue_weight, hue_scale, weight, ignore_index, reduction, label_smoothing: as in the function.

    Raises:
        ValueError: ``labels`` is not of shape (C, 2).

    Example:
        >>> import torch
        >>> loss = HueCrossEntropyLoss(10)
        >>> loss(torch.zeros(3, 10), torch.zeros(3, 2), torch.tensor([1, 2, 3]))
        tensor(4.6052)
    """

    labels: Tensor
    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        *,
        labels: Tensor | None = None,
        hue_weight: float = 1.0,
        hue_scale: float | None = None,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if labels is None:
            labels = hue_labels(num_classes)
        elif labels.shape != (num_classes, 2):
            raise ValueError(f"labels: expected shape {(num_classes, 2)}, got {tuple(labels.shape)}")
        self.register_buffer("labels", labels)
        self.register_buffer("weight", weight)
        self.hue_weight = hue_weight
        self.hue_scale = hue_scale
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, hue: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits (N, C) and hue (N, 2) for targets (N,)."""
        return hue_cross_entropy(
            input,
            hue,
            target,
            self.labels,
            hue_weight=self.hue_weight,
            hue_scale=self.hue_scale,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """Name the options in ``repr``."""
        return (
            f"num_classes={len(self.labels)}, hue_weight={self.hue_weight}, hue_scale={self.hue_scale}, "
            f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}"
        )
