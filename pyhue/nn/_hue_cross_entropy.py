"""Autograd and fake kernels of ``torch.ops.pyhue.hue_cross_entropy``.

With a reduction the kernel computes the gradients together with the loss: they are outputs of the forward
operator, and the backward scales them, in place unless the graph is kept. Without one the backward calls the
kernel again, because only then the weight of each row is known.

For few rows an autograd function of Python takes longer than the kernel: one in C++ takes its place where
that was built for the torch that runs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyhue.nn._autograd import (
    as_in_torch,
    call_for_batched,
    call_for_each_member,
    is_batched,
    may_overwrite_saved,
    refuse_double_backward,
    refuse_gradients,
    scaled,
    transforms_active,
)
from pyhue.nn._ops import differentiable, ops
from pyhue.nn._options import CORRECT, GRADIENTS, LABEL_GRADIENT, LSE, REDUCTIONS, TARGET_GRADIENT, Options
from pyhue.nn._output import count_of

FEW = 1 << 16  # logits: their gradients may be multiplied in passes of their own
_kernel = ops.hue_cross_entropy.default


def _call(*arguments: Any) -> tuple[Tensor, ...]:
    """Call the operator; a target out of bounds is an IndexError, as in torch.

    Without reduction the gradients wait for the backward.
    """
    options: Options = arguments[-1]
    if options.reduction == REDUCTIONS["none"]:
        options = options._replace(outputs=options.outputs & (LSE | CORRECT))
    return _compute(*arguments[:-1], options)


def _compute(*arguments: Any) -> tuple[Tensor, ...]:
    try:
        return tuple(_kernel(*arguments[:-1], *arguments[-1]))
    except RuntimeError as error:
        raise as_in_torch(error) from None


def _fake(input: Tensor, hue: Tensor, target: Tensor, labels: Tensor, *others: Any) -> list[Tensor]:
    options = Options(*others[2:])
    outputs = [hue.new_empty(input.shape[:1] if options.reduction == REDUCTIONS["none"] else ())]
    for bit, tensors in (
        (GRADIENTS, (input, hue)),
        (LABEL_GRADIENT, (labels,)),
        (TARGET_GRADIENT, (target,)),
    ):
        if options.outputs & bit:
            outputs += [tensor.new_empty(tensor.shape) for tensor in tensors]
    of_rows = ((LSE, hue.dtype), (CORRECT, torch.bool))
    return outputs + [hue.new_empty(hue.shape[:1], dtype=t) for bit, t in of_rows if options.outputs & bit]


def _fake_in_place(input: Tensor, hue: Tensor, *others: Any) -> tuple[Tensor, ...]:
    lse, correct = (hue.shape[0] if others[-1] & bit else 0 for bit in (LSE, CORRECT))
    of_rows = hue.new_empty(lse), hue.new_empty(correct, dtype=torch.bool)
    return hue.new_empty(()), hue.new_empty(hue.shape), *of_rows


torch.library.register_fake("pyhue::hue_cross_entropy", _fake)
torch.library.register_fake("pyhue::hue_cross_entropy_", _fake_in_place)
if hasattr(ops, "scale_gradients_"):  # of CUDA only
    torch.library.register_fake("pyhue::scale_gradients_", lambda gradients, factor: None)


def _save(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
    """Keep what the backward scales, or the tensors that it calls the kernel with."""
    ctx.set_materialize_grads(False)
    ctx.options = options = inputs[-1]
    ctx.of_rows = count_of(options.outputs)
    ctx.overwrite = may_overwrite_saved()
    if options.reduction == REDUCTIONS["none"]:
        ctx.save_for_backward(*inputs[:5])
    else:
        ctx.save_for_backward(*outputs[1 : len(outputs) - ctx.of_rows])


def _backward(ctx: Any, grad_loss: Tensor | None, *grad_others: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of the functions below."""
    refuse_double_backward(ctx.of_rows, *grad_others)
    if grad_loss is None:
        return (None,) * 7
    options, saved = ctx.options, ctx.saved_tensors
    if options.reduction == REDUCTIONS["none"]:
        kernel = _transformable if transforms_active() else _compute
        outputs = options.outputs & ~(LSE | CORRECT)
        options = options._replace(reduction=REDUCTIONS["sum"], outputs=outputs)

        def of_rows(weight: Tensor) -> tuple[Tensor, ...]:
            return kernel(*saved, weight.contiguous(), options)[1:]

        gradients = call_for_batched(of_rows, grad_loss) if is_batched(grad_loss) else of_rows(grad_loss)
    else:
        gradients = scaled(saved, grad_loss, ctx.overwrite)
    grad_labels = gradients[2] if options.outputs & LABEL_GRADIENT else None
    grad_target = gradients[-1] if options.outputs & TARGET_GRADIENT else None
    return gradients[0], gradients[1], grad_target, grad_labels, None, None, None


class _TransformableFunction(torch.autograd.Function):
    """The operator on six tensors and the options, for torch.func; the first output is differentiable."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return _call(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        if transforms_active():
            refuse_gradients(ctx, weight=4)
        else:  # a transform would take them for constants: grad(grad(f)) for 0
            ctx.mark_non_differentiable(*output[1:])
        _save(ctx, inputs, output)

    backward = staticmethod(_backward)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return call_for_each_member(_transformable, info.batch_size, in_dims, args)


class _DirectFunction(torch.autograd.Function):
    """The loss without torch.func: saves the binding of the signature of forward, which takes 20 us."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor | tuple[Tensor, ...]:
        outputs = _call(*arguments)
        _save(ctx, arguments, outputs)
        if not ctx.of_rows:
            return outputs[0]
        of_rows = outputs[-ctx.of_rows :]
        ctx.mark_non_differentiable(*of_rows)
        return outputs[0], *of_rows

    backward = staticmethod(_backward)


_direct: Callable[..., Tensor | tuple[Tensor, ...]] = _DirectFunction.apply
_transformable: Callable[..., tuple[Tensor, ...]] = _TransformableFunction.apply


def hue_cross_entropy_loss(transforming: bool, *arguments: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Call the operator with its autograd, inside the transforms of torch.func or not.

    Returns:
        The loss, and what the options ask for of rows.
    """
    of_rows = count_of(arguments[-1].outputs)
    if transforming:
        outputs = _transformable(*arguments)
        return outputs[0], outputs[len(outputs) - of_rows :]
    found: Any = _direct(*arguments)
    return (found[0], found[1:]) if of_rows else (found, ())


def hue_cross_entropy_of_known_kind(*arguments: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same outside of transforms and compilers, of tensors that a call like this one has checked."""
    input, options = arguments[0], arguments[-1]
    of_sums = options.outputs == GRADIENTS and options.reduction != REDUCTIONS["none"]
    if differentiable is None or not of_sums or input.numel() > FEW or not input.is_cpu:
        return hue_cross_entropy_loss(False, *arguments)
    return differentiable(*arguments[:5], *options[:-1]), ()
