"""The hue loss as a function, and the labels that it needs."""

import math
from typing import Any

import torch
from torch import Tensor

from pyhue.memory import PixelMemory
from pyhue.nn import _density
from pyhue.nn._autograd import float32_under_autocast, transforms_active
from pyhue.nn._check import check_hue_cross_entropy, check_linear_hue_cross_entropy
from pyhue.nn._hue_cross_entropy import hue_cross_entropy_loss, hue_cross_entropy_of_known_kind
from pyhue.nn._kinds import kind_of, options_of, remember
from pyhue.nn._linear import linear_hue_cross_entropy_loss
from pyhue.nn._memories import handle_of
from pyhue.nn._options import (
    CORRECT,
    GRADIENTS,
    LABEL_GRADIENT,
    LSE,
    TARGET_GRADIENT,
    checked_options,
    positive_integer,
)
from pyhue.nn._output import HueCrossEntropyOutput, output_of

__all__ = [
    "HueCrossEntropyOutput",
    "hue_cross_entropy",
    "hue_labels",
    "linear_hue_cross_entropy",
    "pixel_density",
]


def hue_labels(num_classes: int, kind: str = "circle", generator: torch.Generator | None = None) -> Tensor:
    """Draw the hue label of every class: a point of the plane in which hue is predicted.

    Args:
        num_classes: C, at least 1.
        kind: ``"circle"``, C evenly spaced points of the unit circle, assigned to the classes at random;
            ``"random"``, points of the unit circle at uniformly random angles; ``"uniform"``, uniformly
            random points of the square [-1, 1]^2; ``"binary"``, its corners at random; ``"center"``, the
            origin for every class.
        generator: source of the randomness; None is torch's default generator.

    Returns:
        Tensor (C, 2), float32.

    Raises:
        TypeError: ``num_classes`` is no integer.
        ValueError: ``num_classes`` is below 1, or ``kind`` is not one of the above.

    Example:
        >>> import torch
        >>> labels = hue_labels(4, generator=torch.Generator().manual_seed(0))
        >>> labels.shape, bool(torch.allclose(labels.norm(dim=1), torch.ones(4)))
        (torch.Size([4, 2]), True)
    """
    positive_integer("num_classes", num_classes)
    shape = (num_classes, 2)
    # Whatever the default type is: 16 bits would give many classes one point.
    drawn: dict[str, Any] = {"generator": generator, "dtype": torch.float32}
    if kind == "circle":
        places = torch.randperm(num_classes, generator=generator)
        return _on_circle(places.to(torch.float32) * (2 * math.pi / num_classes))
    if kind == "random":
        return _on_circle(torch.rand(num_classes, **drawn) * (2 * math.pi))
    if kind == "uniform":
        return 2 * torch.rand(shape, **drawn) - 1
    if kind == "binary":
        return 2 * torch.randint(2, shape, **drawn) - 1
    if kind == "center":
        return torch.zeros(shape, dtype=torch.float32)
    raise ValueError(f"kind: expected 'circle', 'random', 'uniform', 'binary' or 'center', got {kind!r}")


def _on_circle(angles: Tensor) -> Tensor:
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def hue_cross_entropy(
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
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
) -> Any:
    r"""Compute the hue loss: cross-entropy of the logits plus cross-entropy of the predicted hue.

    With d_c = hue_scale ||labels_c - hue||, the distances from the predicted hue, or from the hue predicted
    for class c, to the classes' hue labels::

        loss = cross_entropy(input, target) + hue_weight * cross_entropy(-d, target)

    in which every shared argument means what it means in :func:`torch.nn.functional.cross_entropy`. Loss and
    gradients come from one pass over the logits; the distances are never stored. Where hue equals a label the
    distance has no gradient, and 0 is used. Two options change the first term, the second one first::

        loss of a row += lse_square_scale * weight[target] * logsumexp(input) ** 2    (z-loss)
        input = softcap * tanh(input / softcap)

    Args:
        input: logits, (N, C), (N, C, d1, ..., dk) or (C,); float32, float64, bfloat16 or float16. Sums are
            kept in float32, for float64 in float64.
        hue: predicted points, (N, 2), (N, 2, d1, ..., dk) or (2,), floating; or with a point for every class
            (N, C, 2), (N, C, 2, d1, ..., dk) or (C, 2).
        target: classes, (N,), (N, d1, ..., dk) or (), int64; or class probabilities, floating, shaped as
            ``input``, which may require a gradient.
        labels: hue labels (C, 2), floating, see :func:`hue_labels`; may require a gradient.
        hue_weight: factor of the second term.
        hue_scale: factor of the distances, at least 0; None is 1 / (2 C).
        weight: one factor per class, (C,), floating, without gradient; None is 1 for all.
        ignore_index: a target that adds nothing to the loss; at least 0 only where targets are classes.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
        label_smoothing: in [0, 1]; the part of every target that is spread evenly over the classes.
        lse_square_scale: factor of the z-loss, at least 0; it counts as much as the row's class weight, 1
            where there is none.
        softcap: above 0, what logits stay below; None leaves them as they are.
        return_lse, return_accuracy: return a :class:`HueCrossEntropyOutput`, with the log-sum-exp of each row
            and the accuracy; for the latter targets are classes.

    Returns:
        A scalar of the type of ``input`` (float32 under autocast); with ``reduction="none"`` the losses,
        shaped as class targets are. With ``return_lse`` or ``return_accuracy`` a named tuple (loss, lse,
        accuracy), of which only the loss is differentiable and what was not asked for is None.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has the wrong shape or value; ``weight`` requires a gradient;
            ``return_accuracy`` with class probabilities.
        IndexError: a target is neither a class nor ``ignore_index``. Nothing waits for a GPU: there the loss
            and the gradients of that row are NaN.

    Example:
        >>> import torch
        >>> input = torch.tensor([[2.0, 0.0, 0.0]])
        >>> labels = torch.tensor([[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]])
        >>> hue_cross_entropy(input, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), labels)
        tensor(1.1552)
    """
    # fmt: off
    kind = kind_of(
        input, hue, target, labels, weight,
        (hue_weight, hue_scale, ignore_index, reduction, label_smoothing, lse_square_scale, softcap,
         return_lse, return_accuracy),
    )
    # fmt: on
    seen = options_of(kind)
    if seen is not None:
        weight = None if weight is None else weight.contiguous()
        tensors = input.contiguous(), hue.contiguous(), target.contiguous(), labels.contiguous()
        loss, of_rows = hue_cross_entropy_of_known_kind(*tensors, weight, None, seen)
        return output_of(loss, of_rows, seen.outputs, target, ignore_index) if of_rows else loss
    check_hue_cross_entropy(input, hue, target, labels, weight, ignore_index)
    arguments = input, hue, target, labels, weight
    input = float32_under_autocast(input)
    dims, per_class = input.dim(), hue.dim() > input.dim()
    probabilities = target.dim() == dims
    if return_accuracy and probabilities:
        raise ValueError("return_accuracy: expected classes as targets, got probabilities")
    shape = None
    if dims != 2:
        shape = target.shape if not probabilities else input.shape[:1] + input.shape[2:] if dims > 2 else ()
        input, hue = _rows(input, dims, 1), _rows(hue, dims, 2 if per_class else 1)
        target = _rows(target, dims, 1) if probabilities else target.reshape(-1)

    real = torch.float64 if input.dtype == torch.float64 else torch.float32
    outputs, transforming = 0, transforms_active()
    if torch.is_grad_enabled():
        # Inside grad(vmap(f)) nothing says that it requires a gradient.
        label_gradient = transforming or labels.requires_grad
        target_gradient = probabilities and (transforming or target.requires_grad)
        outputs = LABEL_GRADIENT * label_gradient + TARGET_GRADIENT * target_gradient
        if outputs or input.requires_grad or hue.requires_grad:
            outputs += GRADIENTS
    wanted = LSE * bool(return_lse) + CORRECT * bool(return_accuracy)
    options = checked_options(
        labels.shape[0],
        hue_weight,
        hue_scale,
        ignore_index,
        reduction,
        label_smoothing,
        lse_square_scale,
        softcap,
        outputs + wanted,
    )
    remember(kind, options, *arguments)
    loss, of_rows = hue_cross_entropy_loss(
        transforming,
        input.contiguous(),
        _as(hue, real),
        _as(target, real) if probabilities else target.contiguous(),
        _as(labels, real),
        None if weight is None else _as(weight, real),
        None,
        options,
    )
    if shape is not None:
        loss = loss.reshape(shape) if reduction == "none" else loss
        of_rows = tuple(tensor.reshape(shape) for tensor in of_rows)
        target = target if probabilities else target.reshape(shape)
    loss = loss if loss.dtype == input.dtype else loss.to(input.dtype)
    return output_of(loss, of_rows, wanted, target, ignore_index) if wanted else loss


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert and make contiguous; the comparison is cheaper than a conversion that does nothing."""
    return (tensor if tensor.dtype == dtype else tensor.to(dtype)).contiguous()


def _rows(tensor: Tensor, dims: int, last: int) -> Tensor:
    """(N, C, d1, ..., dk), or (C,), to rows (N d1 ... dk, C); `last` dimensions stay behind N, dk."""
    if dims == 1:
        return tensor.unsqueeze(0)
    own = tuple(range(1, 1 + last))
    moved = tensor.movedim(own, tuple(range(-last, 0)))
    return moved.reshape(-1, *(tensor.shape[dim] for dim in own))


def linear_hue_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor,
    hue_linear_weight: Tensor,
    hue_linear_bias: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
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
) -> Any:
    """Compute :func:`hue_cross_entropy` of two linear layers without storing the logits.

    Equivalent to::

        logits = F.linear(input, linear_weight, linear_bias)
        hue = F.linear(input, hue_linear_weight, hue_linear_bias)  # of every class: .unflatten(1, (C, 2))
        hue_cross_entropy(logits, hue, target, labels, ...)

    Rows are taken in chunks, their gradients accumulated in the forward. Beyond the gradients themselves it
    needs room for logits, and hue of every class, of 100 MiB, or of 16 rows, whatever N is; where rows of
    16 bits are several chunks also for the layers' gradients in float32, in which chunks are added.

    Args:
        input: features (N, F), float32, float64, bfloat16 or float16; under autocast what has 16 bits is
            converted to float32.
        linear_weight, linear_bias: (C, F) and (C,), of the dtype of ``input``; zeros for layers without
            bias.
        hue_linear_weight, hue_linear_bias: (2, F) and (2,), likewise; for a hue of every class (2 C, F) and
            (2 C,), in which the rows 2 c and 2 c + 1 predict the point of class c.
        target: classes (N,), int64; class probabilities are not supported.
        labels: hue labels (C, 2), floating; receive no gradient here.
        reduction: ``"mean"`` or ``"sum"``.
        hue_weight, hue_scale, weight, ignore_index, label_smoothing: as in :func:`hue_cross_entropy`.
        lse_square_scale, softcap, return_lse, return_accuracy: as in :func:`hue_cross_entropy`.

    Returns:
        A scalar of the type of ``input`` (float32 under autocast); a named tuple as there.

    Raises:
        TypeError, ValueError, IndexError: as :func:`hue_cross_entropy`; labels that require a gradient.

    Example:
        >>> import torch
        >>> classifier, hue = torch.nn.Linear(8, 10), torch.nn.Linear(8, 2)
        >>> layers = classifier.weight, classifier.bias, hue.weight, hue.bias
        >>> loss = linear_hue_cross_entropy(torch.zeros(4, 8), *layers, torch.arange(4), hue_labels(10))
        >>> loss.backward()
        >>> classifier.weight.grad.shape
        torch.Size([10, 8])
    """
    linears = tuple(
        float32_under_autocast(tensor)
        for tensor in (input, linear_weight, linear_bias, hue_linear_weight, hue_linear_bias)
    )
    check_linear_hue_cross_entropy(linears, target, labels, weight, reduction)
    gradients = torch.is_grad_enabled() and (
        transforms_active() or any(tensor.requires_grad for tensor in linears)
    )
    wanted = LSE * bool(return_lse) + CORRECT * bool(return_accuracy)
    options = checked_options(
        labels.shape[0],
        hue_weight,
        hue_scale,
        ignore_index,
        reduction,
        label_smoothing,
        lse_square_scale,
        softcap,
        GRADIENTS * gradients + wanted,
    )
    dtype = linears[0].dtype
    real = torch.float64 if dtype == torch.float64 else torch.float32
    weight = None if weight is None else _as(weight, real)
    arguments = (*linears, target.contiguous(), _as(labels, real), weight)
    loss, of_rows = linear_hue_cross_entropy_loss(*arguments, *options)
    loss = loss.to(dtype)
    return output_of(loss, of_rows, wanted, target, ignore_index) if wanted else loss


def pixel_density(activations: Tensor, memory: PixelMemory, k: int = 10, eps: float = 1e-8) -> Tensor:
    """Compute the class log-likelihoods of images under a memory, with a gradient to the activations.

    What :meth:`pyhue.PixelMemory.log_likelihood` gives. With q_i the vector of pixel i, scaled to unit length
    if the memory normalises, v_ij its k nearest stored vectors, of classes C_ij::

        D_ij = |q_i - v_ij|^2,    a_i = min_j D_ij + eps
        log p(C) = log( sum_ij [C_ij = C] exp(-D_ij / a_i) / class_counts[C] )

    The gradient goes through the distances, the bandwidth a_i and the scaling; which vectors are neighbours
    it takes as fixed, and of equally near ones the first for the nearest. docs/density.md derives it, says
    which ``eps`` trains well (far more than the default, which suits retrieval) and what to do about -inf.

    Args:
        activations: (images, pixels, dim), or feature maps (images, dim, H, W), floating. Best on the
            memory's device; those of 16 bits are compared in float32.
        memory: what is searched. It must live until the backward; what is added before then does not matter.
        k: neighbours of each pixel vector, at least 1. Default 10.
        eps: added to the squared bandwidth, positive. Default 1e-8.

    Returns:
        (images, num_classes), float32, of float64 activations float64: these are compared in float64. -inf
        for a class without a neighbour, which passes no gradient on. All-zero pixels get the gradient 0 if
        the memory normalises.

    Raises:
        TypeError: ``activations`` is not floating, ``k`` or ``eps`` is no number.
        ValueError: a shape is wrong, a value is not finite, the memory is empty.

    Example:
        >>> import torch
        >>> memory = PixelMemory(dim=4)
        >>> memory.add(torch.eye(4)[:, None], labels=[0, 0, 1, 1])
        >>> activations = torch.tensor([[[4.0, 1, 1, 0]]], requires_grad=True)
        >>> pixel_density(activations, memory, k=4, eps=0.1)[0, 0].backward()
        >>> activations.grad.shape
        torch.Size([1, 1, 4])
    """
    if not isinstance(activations, Tensor):
        raise TypeError(f"activations: expected a tensor, got {type(activations).__name__}")
    if not isinstance(memory, PixelMemory):
        raise TypeError(f"memory: expected a PixelMemory, got {type(memory).__name__}")
    found = _density.log_likelihood(activations, handle_of(memory), memory.num_classes, k, eps)
    if not torch.compiler.is_compiling() and found.grad_fn is not None:
        found.grad_fn.metadata["memory"] = memory  # type: ignore[index]  # lives as long as the graph
    return found
