"""What the autograd functions of the operators share."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyhue.nn._ops import ops

_HALF = frozenset((torch.bfloat16, torch.float16))


def transforms_active() -> bool:
    """Whether torch.func transforms are at work: tensors then hide values and who requires a gradient."""
    return torch._C._are_functorch_transforms_active()


def float32_under_autocast(tensor: Tensor) -> Tensor:
    """The tensor as float32 if it has 16 bits and autocast is on, as torch does for cross_entropy.

    A cast here, not torch.library.register_autocast: that would act inside the autograd function, whose
    gradients would then be rounded to 16 bits before a gradient scaler could save them from underflow.
    """
    if getattr(tensor, "dtype", None) not in _HALF:  # nor is what is no tensor, which its check will say
        return tensor
    if tensor.is_meta:  # nobody can ask about autocast for meta tensors
        return tensor
    return tensor.to(torch.float32) if torch.is_autocast_enabled(tensor.device.type) else tensor


def as_in_torch(error: RuntimeError) -> Exception:
    """The error of an operator, or the IndexError that it stands for."""
    found = re.search(r"Target -?\d+ is out of bounds\.", str(error))
    return IndexError(found[0]) if found else error


def refuse_double_backward(of_rows: int, *grad_others: Tensor | None) -> None:
    """Raise where a backward is to be differentiated: its gradients would pass for constants.

    torch.compile alone asks with gradients of all outputs, and has no double backward itself.

    Args:
        of_rows: how many of the last outputs are results of rows, which have no gradient either.
        *grad_others: the gradients of the outputs after the loss.
    """
    transforming = transforms_active()
    if torch.compiler.is_compiling() and not transforming:
        return
    once_more = torch.is_grad_enabled() and not transforming
    if of_rows and any(gradient is not None for gradient in grad_others[-of_rows:]):
        raise RuntimeError("lse has no gradient: lse_square_scale adds its square to the loss")
    if once_more or any(gradient is not None for gradient in grad_others):
        raise RuntimeError("there is no double backward: gradients of pyhue.nn cannot be differentiated")


def refused_gradient(name: str) -> ValueError:
    """The error of a tensor that requires a gradient and would get none."""
    return ValueError(f"{name}: expected a tensor without gradient, got one that requires it")


def refuse_gradients(ctx: Any, **inputs: int) -> None:
    """Raise where one of these inputs, by their number, requires a gradient inside a transform.

    Only its innermost level knows; outside of transforms the tensors themselves were asked.
    """
    for name, number in inputs.items():
        if ctx.needs_input_grad[number]:
            raise refused_gradient(name)


def may_overwrite_saved() -> bool:
    """Whether tensors saved now, that nobody else holds, are surely nobody else's in the backward either.

    Hooks on saved tensors get them in between, and may keep them. Asked in the forward.
    """
    if transforms_active() or torch.compiler.is_compiling():
        return False
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is not None and hooks(True) is None


def is_batched(tensor: Tensor) -> bool:
    """Whether it stands for several tensors, as in `torch.autograd.grad(is_grads_batched=True)`."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_legacy_batchedtensor(tensor)


def call_for_batched(function: Callable[[Tensor], tuple[Tensor, ...]], batched: Tensor) -> tuple[Tensor, ...]:
    """The results for each of the tensors that it stands for, batched likewise."""
    level = 1  # the outermost: what would batch once more differentiates a backward
    members = torch._remove_batch_dim(batched, level, 1, 0)
    results = [function(member) for member in members]
    return tuple(torch._add_batch_dim(torch.stack(r), 0, level) for r in zip(*results, strict=True))


def _graph_is_kept() -> bool:
    """Whether the backward under way, if one is, leaves saved tensors for another one."""
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return kept is None or bool(kept())


def scaled(
    gradients: tuple[Tensor, ...], grad_loss: Tensor, overwrite: bool, device_ops: Any = ops
) -> tuple[Tensor, ...]:
    """The saved gradients times that of the loss, with no pass over them where that is 1.

    They are overwritten where this backward is the last that reads them: the engine releases saved tensors
    right after it unless the graph is kept. A GPU looks at the factor itself; here that would wait for it.

    Args:
        gradients: the saved gradients.
        grad_loss: the factor, a scalar.
        overwrite: what `may_overwrite_saved` said in the forward.
        device_ops: the operators of the device.
    """
    if not overwrite or transforms_active() or torch.compiler.is_compiling():
        return tuple(gradient * grad_loss for gradient in gradients)
    if type(grad_loss) is not Tensor or is_batched(grad_loss) or _graph_is_kept():
        return tuple(gradient * grad_loss for gradient in gradients)
    real = torch.float64 if gradients[0].dtype == torch.float64 else torch.float32
    if device_ops is ops and grad_loss.is_cpu:
        if grad_loss.item() != 1.0:
            for gradient in gradients:
                gradient.mul_(grad_loss)
        return gradients
    scale = getattr(device_ops, "scale_gradients_", None)
    if scale is None or grad_loss.dtype != real or grad_loss.device != gradients[0].device:
        return tuple(gradient * grad_loss for gradient in gradients)
    scale(list(gradients), grad_loss)
    # Should this backward fail after all, the next one is to fail too, not to scale once more.
    torch.autograd.graph.increment_version(gradients)
    return gradients


def call_for_each_member(
    function: Callable[..., tuple[Tensor, ...]], members: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The vmap rule: one call for each member of the batch, whatever is batched."""
    results = []
    for i in range(members):
        member = [
            arg.select(dim, i).contiguous() if isinstance(arg, Tensor) and dim is not None else arg
            for arg, dim in zip(args, in_dims, strict=True)
        ]
        results.append(function(*member))
    outputs = tuple(torch.stack(tensors) for tensors in zip(*results, strict=True))
    return outputs, (0,) * len(outputs)
