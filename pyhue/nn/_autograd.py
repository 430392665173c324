"""What the autograd functions of the operators share."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_HALF = frozenset((torch.bfloat16, torch.float16))


def transforms_active() -> bool:
    """Whether torch.func transforms are at work: tensors then hide values and who requires a gradient."""
    return torch._C._are_functorch_transforms_active()


def float32_under_autocast(tensor: Tensor) -> Tensor:
    """The tensor as float32 if it has 16 bits and autocast is on, as torch does for cross_entropy.

    A cast here, not torch.library.register_autocast: that would act inside the autograd function, whose
    gradients would then be rounded to 16 bits before a gradient scaler could save them from underflow.
    """
    if tensor.dtype not in _HALF or tensor.is_meta:  # nobody can ask about autocast for meta tensors
        return tensor
    return tensor.to(torch.float32) if torch.is_autocast_enabled(tensor.device.type) else tensor


def as_in_torch(error: RuntimeError) -> Exception:
    """The error of an operator, or the IndexError that it stands for."""
    found = re.search(r"Target -?\d+ is out of bounds\.", str(error))
    return IndexError(found[0]) if found else error


def refuse_double_backward(*grad_gradients: Tensor | None) -> None:
    """Raise where a backward is to be differentiated: its gradients would pass for constants.

    torch.compile alone asks with gradients of all outputs, and has no double backward itself.
    """
    transforming = transforms_active()
    if torch.compiler.is_compiling() and not transforming:
        return
    once_more = torch.is_grad_enabled() and not transforming
    if once_more or any(gradient is not None for gradient in grad_gradients):
        raise RuntimeError("the hue loss has no double backward: its gradients cannot be differentiated")


def scaled(gradients: tuple[Tensor, ...], grad_loss: Tensor) -> tuple[Tensor, ...]:
    """The gradients times that of the loss: as they are if it is 1, where looking at its value is free."""
    traced = transforms_active() or torch.compiler.is_compiling()
    if not traced and type(grad_loss) is Tensor and grad_loss.is_cpu and grad_loss.item() == 1.0:
        return gradients
    return tuple(gradient * grad_loss for gradient in gradients)


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
