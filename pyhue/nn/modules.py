"""Modules: the head that predicts logits and hue, and the loss."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyhue.nn._check import check_labels, check_weight
from pyhue.nn._options import checked_options, positive_integer
from pyhue.nn.functional import hue_cross_entropy, hue_labels


class HueHead(nn.Module):
    """Two linear layers on the same features: one gives the logits, one the point that predicts hue.

    Args:
        in_features: F, channels of the bottleneck.
        num_classes: C.
        bias: whether both layers have a bias.
        per_class: predict a point for every class instead of one for all.

    Raises:
        TypeError, ValueError: ``in_features`` or ``num_classes`` is no integer of at least 1.

    Example:
        >>> import torch
        >>> logits, hue = HueHead(512, 10)(torch.zeros(3, 512))
        >>> logits.shape, hue.shape
        (torch.Size([3, 10]), torch.Size([3, 2]))
    """

    def __init__(
        self, in_features: int, num_classes: int, bias: bool = True, per_class: bool = False
    ) -> None:
        super().__init__()
        positive_integer("in_features", in_features)
        positive_integer("num_classes", num_classes)
        self.per_class = per_class
        self.classifier = nn.Linear(in_features, num_classes, bias=bias)
        self.hue = nn.Linear(in_features, 2 * num_classes if per_class else 2, bias=bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (N, F) to logits (N, C) and hue (N, 2), or (N, C, 2) for every class."""
        hue = self.hue(features)
        return self.classifier(features), hue.unflatten(-1, (-1, 2)) if self.per_class else hue


class HueCrossEntropyLoss(nn.Module):
    """The hue loss with its labels; see :func:`pyhue.nn.functional.hue_cross_entropy`.

    Labels and weights are float32 at least, whatever the module is converted to: ``.bfloat16()`` would give
    many classes one point.

    Args:
        num_classes: C.
        labels: hue labels (C, 2); None draws them with :func:`pyhue.nn.hue_labels`. They are a buffer, so
            they are saved with the module.
        learnable: learn the labels. They stay on the unit circle: the parameter is the angle of each, and
            starts at the angle of ``labels``; the lengths of ``labels`` are lost.
        hue_weight, hue_scale, weight, ignore_index, reduction, label_smoothing, lse_square_scale, softcap,
            return_lse, return_accuracy: as in the function.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.

    Example:
        >>> import torch
        >>> loss = HueCrossEntropyLoss(10)
        >>> loss(torch.zeros(3, 10), torch.zeros(3, 2), torch.tensor([1, 2, 3]))
        tensor(4.6052)
    """

    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        *,
        labels: Tensor | None = None,
        learnable: bool = False,
        hue_weight: float = 1.0,
        hue_scale: float | None = None,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        return_lse: bool = False,
        return_accuracy: bool = False,
    ) -> None:
        super().__init__()
        positive_integer("num_classes", num_classes)
        checked_options(
            num_classes,
            hue_weight,
            hue_scale,
            ignore_index,
            reduction,
            label_smoothing,
            lse_square_scale,
            softcap,
            0,
        )
        if labels is not None:
            check_labels(labels, num_classes)
            labels = _at_least_float32(labels)
        if weight is not None:
            check_weight(weight, num_classes)
            weight = _at_least_float32(weight)
        self.num_classes = num_classes
        self._given_labels, self._given_weight = _kept(labels), _kept(weight)
        start = hue_labels(num_classes) if labels is None else labels
        if learnable:
            self.angles = nn.Parameter(_angles(start))
        else:
            self.register_buffer("fixed_labels", start)
        self.register_buffer("weight", weight)
        self.hue_weight = hue_weight
        self.hue_scale = hue_scale
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing
        self.lse_square_scale = lse_square_scale
        self.softcap = softcap
        self.return_lse = return_lse
        self.return_accuracy = return_accuracy

    def reset_parameters(self) -> None:
        """Give labels and weights the values that the constructor gave them; it draws labels anew.

        Raises:
            RuntimeError: they were given on the meta device, which keeps no values.
        """
        labels, weight = self._given_labels, self._given_weight
        for name, given in (("labels", labels), ("weight", weight)):
            if given is not None and given.is_meta:
                raise RuntimeError(f"{name}: given on the meta device, without values: load them instead")
        labels = hue_labels(self.num_classes) if labels is None else labels
        with torch.no_grad():
            if "angles" in self._parameters:
                self.angles.copy_(_angles(labels))
            else:
                self.get_buffer("fixed_labels").copy_(labels)
            if self.weight is not None and weight is not None:
                self.weight.copy_(weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move, but do not round: what `.to`, `.half` and all the others come through."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            rounded = torch.promote_types(there.dtype, torch.float32) != there.dtype
            return tensor.to(there.device) if rounded else there

        module: Self = super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return module

    @property
    def labels(self) -> Tensor:
        """Hue labels, (C, 2); through them the angles receive a gradient when they are learnable."""
        angles = self._parameters.get("angles")
        if angles is None:
            return self.get_buffer("fixed_labels")
        return torch.stack((angles.cos(), angles.sin()), dim=-1)

    def forward(self, input: Tensor, hue: Tensor, target: Tensor) -> Any:
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
            lse_square_scale=self.lse_square_scale,
            softcap=self.softcap,
            return_lse=self.return_lse,
            return_accuracy=self.return_accuracy,
        )

    def extra_repr(self) -> str:
        """Name the options in ``repr``."""
        return (
            f"num_classes={self.num_classes}, hue_weight={self.hue_weight}, hue_scale={self.hue_scale}, "
            f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}, lse_square_scale={self.lse_square_scale}, "
            f"softcap={self.softcap}"
        )


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _kept(tensor: Tensor | None) -> Tensor | None:
    """A copy that nothing changes."""
    return None if tensor is None else tensor.detach().clone()


def _angles(labels: Tensor) -> Tensor:
    return torch.atan2(labels[:, 1], labels[:, 0])


class HueClassifier(nn.Module):
    """A backbone with a :class:`HueHead` and the hue loss: logits without targets, the loss with them.

    Args:
        backbone: maps a batch of inputs to features (N, F).
        in_features: F.
        num_classes: C.
        per_class: as in :class:`HueHead`.
        **options: of :class:`HueCrossEntropyLoss`.

    Example:
        >>> import torch
        >>> model = HueClassifier(torch.nn.Flatten(), 64, 10)
        >>> images, targets = torch.zeros(5, 1, 8, 8), torch.arange(5)
        >>> model(images, targets).shape, model.eval()(images).shape
        (torch.Size([]), torch.Size([5, 10]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_features: int,
        num_classes: int,
        *,
        per_class: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = HueHead(in_features, num_classes, per_class=per_class)
        self.loss = HueCrossEntropyLoss(num_classes, **options)

    def forward(self, input: Tensor, target: Tensor | None = None) -> Any:
        """Return the logits (N, C), or the loss for targets (N,), as the options say with what else."""
        logits, hue = self.head(self.backbone(input))
        return logits if target is None else self.loss(logits, hue, target)
