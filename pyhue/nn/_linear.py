"""The hue loss fused with the linear layers before it, a chunk of rows at a time.

The whole of it, gradients included, is one operator: torch.compile and torch.export see no loop.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyhue.nn._autograd import (
    as_in_torch,
    call_for_each_member,
    may_overwrite_saved,
    refuse_double_backward,
    refuse_gradients,
    scaled,
    transforms_active,
)
from pyhue.nn._ops import ops
from pyhue.nn._options import CORRECT, GRADIENTS, LSE, REDUCTIONS, Options
from pyhue.nn._output import count_of

CHUNK_BYTES = 100 << 20  # of a chunk's logits, which their gradient overwrites: docs/decisions/linear-form.md
BLOCK_ELEMENTS = 1 << 21  # of a 16-bit product on its way into a float32 sum: they stay in the caches


def _total(target: Tensor, class_weight: Tensor | None, options: Options) -> Tensor | float:
    """What the sum over rows is divided by."""
    if options.reduction == REDUCTIONS["sum"]:
        return 1.0
    counted = target != options.ignore_index
    if class_weight is None:
        return counted.sum()
    # The kernel says which target is out of bounds.
    return class_weight[target.clamp(0, len(class_weight) - 1)].where(counted, 0).sum()


def _loss(
    linears: tuple[Tensor, ...],
    target: Tensor,
    labels: Tensor,
    class_weight: Tensor | None,
    options: Options,
    gradients: list[Tensor],
    of_rows: list[Tensor],
) -> Tensor:
    """The loss, of the labels' type; the gradients of the linears, all of them or none, are written.

    So is what the options ask for of rows.
    """
    features, weight, bias, hue_weight, hue_bias = linears
    real, points = labels.dtype, len(hue_weight) // 2
    total, options = _total(target, class_weight, options), options._replace(reduction=REDUCTIONS["sum"])
    loss = labels.new_zeros(())
    # Chunks of one size: a short one would read all weights and their gradients for a few rows.
    row_bytes = len(weight) * features.element_size()
    if points > 1:
        row_bytes += 2 * 2 * points * real.itemsize  # hue and its gradient
    chunks = math.ceil(len(features) * row_bytes / CHUNK_BYTES)
    rows = min(len(features), max(16, math.ceil(len(features) / max(1, chunks))))
    room, ones = features.new_empty(rows, len(weight)), features.new_ones(rows)
    row_weight, unscale = labels.new_ones(len(features)) / total, None
    if gradients and features.dtype == torch.float16:
        scale = _float16_scale(linears, rows, class_weight, options)
        row_weight, unscale = scale.expand(len(features)).contiguous(), 1 / (scale * total)
        unscale = unscale.where(unscale.isfinite(), 1.0)  # no row counts, and all gradients are 0
    # Sums over several chunks are rounded to 16 bits when they are complete.
    sum_type = real if rows < len(features) else weight.dtype
    sums = [t if t.dtype == sum_type else torch.empty_like(t, dtype=sum_type) for t in gradients[1:3]]
    sums += gradients[3:]
    real_hue_weight = hue_weight.to(real)
    for tensor in sums:
        if tensor.dim() == 1 or not rows:
            tensor.zero_()
    for begin in range(0, len(features), max(1, rows)):
        chunk = slice(begin, begin + rows)
        x = features[chunk]
        logits = torch.addmm(bias, x, weight.T, out=room[: len(x)])
        hue = torch.addmm(hue_bias, x, hue_weight.T).to(real)
        if points > 1:
            hue = hue.view(-1, points, 2)
        arguments = (logits, hue, target[chunk], labels, class_weight)
        if gradients:
            scalars = (*options[:3], *options[4:])  # it always sums
            part, grad_hue, lse, correct = ops.hue_cross_entropy_(*arguments, row_weight[chunk], *scalars)
            rest = [t for bit, t in ((LSE, lse), (CORRECT, correct)) if options.outputs & bit]
        else:
            part, *rest = ops.hue_cross_entropy(*arguments, None, *options)
        loss += part
        for whole, of_chunk in zip(of_rows, rest, strict=True):
            whole[chunk] = of_chunk
        if not gradients:
            continue
        grad_hue = grad_hue.view(-1, 2 * points)
        from_hue = (grad_hue @ real_hue_weight).to(x.dtype)
        torch.addmm(from_hue, logits, weight, out=gradients[0][chunk])
        _add_product(sums[0], logits.T, x, begin == 0)
        sums[1] += torch.mv(logits.T, ones[: len(x)])  # a sum over rows of 16 bits takes six times as long
        _add_product(sums[2], grad_hue.T, x.to(real), begin == 0)
        sums[3] += grad_hue.sum(0)
    for gradient, complete in zip(gradients, [*gradients[:1], *sums], strict=True):
        if unscale is not None:
            complete *= unscale
        if gradient is not complete:
            gradient.copy_(complete)
    return loss / total


def _float16_scale(
    linears: tuple[Tensor, ...], rows: int, class_weight: Tensor | None, options: Options
) -> Tensor:
    """The power of two that rows' gradients are multiplied by: 1 / N of them would underflow.

    No sum over a chunk of so many rows, nor over classes, overflows: of a row the absolute values of the
    logits' gradients add up to at most 2 + 2 lse_square_scale |lse|, times the weight of its class, and those
    of its hue gradient to at most 2 hue_weight hue_scale in either coordinate.
    """
    features, weight, bias, hue_weight, _ = linears
    pull = 1 + options.lse_square_scale * _largest_lse(features, weight, bias, options.softcap)
    over_rows = rows * pull * _largest(features).clamp(min=1)
    from_hue = abs(options.hue_weight) * options.hue_scale * _largest(hue_weight)
    bound = torch.maximum(over_rows, 2 * pull * _largest(weight) + 4 * from_hue)
    if class_weight is not None:
        bound = bound * _largest(class_weight)
    return torch.exp2((15 - bound.log2()).floor().clamp(-40, 15))


def _largest_lse(features: Tensor, weight: Tensor, bias: Tensor, softcap: float) -> Tensor:
    """A bound of the absolute values of log-sum-exps of float16 logits."""
    if not features.numel():
        return weight.new_zeros((), dtype=torch.float32)
    norms = [torch.linalg.vector_norm(t, dim=1, dtype=torch.float32).amax() for t in (features, weight)]
    logit = torch.clamp(norms[0] * norms[1] + _largest(bias), max=softcap or torch.finfo(torch.float16).max)
    return torch.add(logit, math.log(len(weight)))


def _largest(tensor: Tensor) -> Tensor:
    """The largest absolute value, float32; 0 of nothing."""
    if not tensor.numel():
        return tensor.new_zeros((), dtype=torch.float32)
    low, high = torch.aminmax(tensor)
    return torch.maximum(-low, high).float()


def _add_product(total: Tensor, a: Tensor, b: Tensor, first: bool) -> None:
    """Add a b to `total`, which holds nothing yet before the first one."""
    if total.dtype == a.dtype:
        total.addmm_(a, b, beta=0.0 if first else 1.0)
        return
    size = max(1, BLOCK_ELEMENTS // max(1, b.shape[1]))
    room = a.new_empty(min(size, len(a)), b.shape[1])
    for part, rows in zip(torch.split(total, size), torch.split(a, size), strict=True):
        product = torch.mm(rows, b, out=room[: len(rows)])
        part.copy_(product) if first else part.add_(product)


def _gradients(linears: tuple[Tensor, ...], labels: Tensor) -> list[Tensor]:
    """Room for them. Those of the hue layer, which float16 would lose in the mean, have the labels' type."""
    return [
        t.new_empty(t.shape, dtype=labels.dtype if number >= 3 else t.dtype)
        for number, t in enumerate(linears)
    ]


def _of_rows(features: Tensor, labels: Tensor, outputs: int) -> list[Tensor]:
    """Room for what is asked of rows."""
    types = ((LSE, labels.dtype), (CORRECT, torch.bool))
    return [labels.new_empty(features.shape[:1], dtype=dtype) for bit, dtype in types if outputs & bit]


@torch.library.custom_op("pyhue::linear_hue_cross_entropy", mutates_args=())
def _operator(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    hue_linear_weight: Tensor,
    hue_linear_bias: Tensor,
    target: Tensor,
    labels: Tensor,
    class_weight: Tensor | None,
    hue_weight: float,
    hue_scale: float,
    ignore_index: int,
    reduction: int,
    label_smoothing: float,
    lse_square_scale: float,
    softcap: float,
    outputs: int,
) -> list[Tensor]:
    linears = (features, weight, bias, hue_linear_weight, hue_linear_bias)
    gradients = _gradients(linears, labels) if outputs & GRADIENTS else []
    of_rows = _of_rows(features, labels, outputs)
    options = Options(
        hue_weight,
        hue_scale,
        ignore_index,
        reduction,
        label_smoothing,
        lse_square_scale,
        softcap,
        outputs & (LSE | CORRECT),
    )
    try:
        with torch.autocast("cuda" if features.is_cuda else "cpu", enabled=False):
            loss = _loss(linears, target, labels, class_weight, options, gradients, of_rows)
    except RuntimeError as error:
        raise as_in_torch(error) from None
    return [loss, *gradients, *of_rows]


@_operator.register_fake
def _(features: Tensor, *others: Any) -> list[Tensor]:
    linears, labels = (features, *others[:4]), others[5]
    outputs = others[-1]
    gradients = _gradients(linears, labels) if outputs & GRADIENTS else []
    return [labels.new_empty(()), *gradients, *_of_rows(features, labels, outputs)]


class LinearHueCrossEntropyFunction(torch.autograd.Function):
    """The operator on eight tensors and its options.

    It gives the loss, gradients that only the backward uses, and what is asked of rows.
    """

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return tuple(_operator(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        if transforms_active():
            refuse_gradients(ctx, labels=6, weight=7)
        else:
            ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.overwrite, ctx.dtype = may_overwrite_saved(), inputs[0].dtype
        ctx.of_rows = count_of(inputs[-1])
        ctx.save_for_backward(*output[1 : len(output) - ctx.of_rows])

    @staticmethod
    def backward(
        ctx: Any, grad_loss: Tensor | None, *grad_others: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        refuse_double_backward(ctx.of_rows, *grad_others)
        if grad_loss is None:
            return (None,) * 16
        gradients = scaled(ctx.saved_tensors, grad_loss, ctx.overwrite)
        return (*(gradient.to(ctx.dtype) for gradient in gradients), *(None,) * 11)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return call_for_each_member(linear_hue_cross_entropy_outputs, info.batch_size, in_dims, args)


linear_hue_cross_entropy_outputs: Callable[..., tuple[Tensor, ...]] = LinearHueCrossEntropyFunction.apply


def linear_hue_cross_entropy_loss(*arguments: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Call the operator with its autograd: the loss, and what the options ask for of rows."""
    found = linear_hue_cross_entropy_outputs(*arguments)
    return found[0], found[len(found) - count_of(arguments[-1]) :]
