"""Autograd and fake kernels of ``torch.ops.pyhue.hue_cross_entropy``.

With a reduction the kernel computes the gradients together with the loss: they are outputs of the forward
operator, and the backward scales them. Without one the backward calls the kernel again, because only then
the weight of each row is known.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyhue.nn._ops import ops

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}

NO_DOUBLE_BACKWARD = "hue_cross_entropy has no double backward: its gradients cannot be differentiated"

_kernel = ops.hue_cross_entropy.default


def _fake(
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    row_weight: Tensor | None,
    hue_weight: float,
    hue_scale: float,
    ignore_index: int,
    reduction: int,
    label_smoothing: float,
    gradients: bool,
    label_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, classes = input.shape
    return (
        hue.new_empty((rows,) if reduction == REDUCTIONS["none"] else ()),
        input.new_empty((rows, classes) if gradients else (0,)),
        hue.new_empty(hue.shape if gradients else (0,)),
        hue.new_empty((classes, 2) if gradients and label_gradient else (0,)),
    )


class Options(NamedTuple):
    """The operator's arguments that are no tensors."""

    hue_weight: float
    hue_scale: float
    ignore_index: int
    reduction: int
    label_smoothing: float
    gradients: bool
    label_gradient: bool


def _call(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Call the operator; a target out of bounds is an IndexError, as in torch."""
    try:
        outputs: tuple[Tensor, Tensor, Tensor, Tensor] = _kernel(*arguments[:-1], *arguments[-1])
    except RuntimeError as error:
        raise as_in_torch(error) from None
    return outputs


def as_in_torch(error: RuntimeError) -> Exception:
    """The error of the operator, or the IndexError that it stands for."""
    found = re.search(r"Target -?\d+ is out of bounds\.", str(error))
    return IndexError(found[0]) if found else error


def _fake_in_place(
    input: Tensor,
    hue: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    row_weight: Tensor | None,
    hue_weight: float,
    hue_scale: float,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    return hue.new_empty(()), hue.new_empty(hue.shape)


torch.library.register_fake("pyhue::hue_cross_entropy", _fake)
torch.library.register_fake("pyhue::hue_cross_entropy_", _fake_in_place)


def _save(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.options = inputs[-1]
    if ctx.options.reduction != REDUCTIONS["none"]:
        ctx.save_for_backward(*outputs)
    else:
        ctx.save_for_backward(outputs[0], *inputs[:5])


def _backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of the functions below."""
    transforming, compiling = transforms_active(), torch.compiler.is_compiling()
    loss, *saved = ctx.saved_tensors
    if ctx.options.reduction == REDUCTIONS["none"]:
        options = ctx.options._replace(reduction=REDUCTIONS["sum"], gradients=True)
        kernel = _transformable if transforming else _call
        _, *gradients = kernel(*saved, grad_loss.contiguous(), options)
    elif not transforming and not compiling and is_one(grad_loss):
        gradients = saved
    else:
        gradients = [gradient * grad_loss.to(gradient.dtype) for gradient in saved]
    if torch.is_grad_enabled() and not transforming and not compiling:
        gradients = _undifferentiable(loss, *gradients)
    grad_input, grad_hue, grad_labels = gradients
    return grad_input, grad_hue, None, grad_labels if ctx.options.label_gradient else None, None, None, None


class HueCrossEntropyFunction(torch.autograd.Function):
    """The operator on six tensors and the options; of its outputs the first is differentiable."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return _call(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        if not transforms_active():  # a transform would take them for constants: grad(grad(f)) for 0
            ctx.mark_non_differentiable(*output[1:])
        _save(ctx, inputs, output)

    @staticmethod
    def backward(
        ctx: Any, grad_loss: Tensor | None, *grad_gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if any(gradient is not None for gradient in grad_gradients):
            raise RuntimeError(NO_DOUBLE_BACKWARD)
        return (None,) * 7 if grad_loss is None else _backward(ctx, grad_loss)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """One call for each member of the batch, whatever is batched: inputs, labels or weights."""
        members = []
        for i in range(info.batch_size):
            member = [
                arg.select(dim, i).contiguous() if isinstance(arg, Tensor) and dim is not None else arg
                for arg, dim in zip(args, in_dims, strict=True)
            ]
            members.append(_transformable(*member))
        return tuple(torch.stack(outputs) for outputs in zip(*members, strict=True)), (0, 0, 0, 0)


class _DirectFunction(torch.autograd.Function):
    """The loss without torch.func: saves the binding of the signature of forward, which takes 20 us."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        outputs = _call(*arguments)
        _save(ctx, arguments, outputs)
        return outputs[0]

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None,) * 7 if grad_loss is None else _backward(ctx, grad_loss)


_direct: Callable[..., Tensor] = _DirectFunction.apply
_transformable: Callable[..., tuple[Tensor, ...]] = HueCrossEntropyFunction.apply


def hue_cross_entropy_loss(transforming: bool, *arguments: Any) -> Tensor:
    """Call the operator with its autograd, inside the transforms of torch.func or not."""
    return _transformable(*arguments)[0] if transforming else _direct(*arguments)


class _Undifferentiable(torch.autograd.Function):
    """Copies of gradients, whose backward is an error."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.clone() for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
        raise RuntimeError(NO_DOUBLE_BACKWARD)


# With create_graph=True gradients would otherwise pass for constants; the loss connects them to its inputs.
_undifferentiable: Callable[..., list[Tensor]] = _Undifferentiable.apply


def transforms_active() -> bool:
    """Whether torch.func transforms are at work: tensors then hide values and who requires a gradient."""
    return torch._C._are_functorch_transforms_active()


def is_one(grad_loss: Tensor) -> bool:
    """Whether the gradients can be handed on as they are, where looking at a value is free."""
    return type(grad_loss) is Tensor and grad_loss.is_cpu and grad_loss.item() == 1.0
