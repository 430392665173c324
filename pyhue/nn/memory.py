"""A memory as a layer: its class log-likelihoods, computed by a custom operator."""

from typing import Any

import torch
from torch import Tensor, nn

from pyhue.memory import PixelMemory
from pyhue.nn import _density
from pyhue.nn._memories import handle_of, memory_of


class MemoryClassifier(nn.Module):
    """`PixelMemory.log_likelihood` as a layer that compiles, with `torch.compile(fullgraph=True)` too.

    The search runs where `PixelMemory.to` put it. The memory is not part of the state dict: save it with
    `PixelMemory.save`. Assign another one to `memory` at any time; that alone compiles nothing again.

    Args:
        memory: filled already; its classes are counted here.
        k: neighbours of each pixel vector. Default 10.
        eps: added to the squared bandwidth. Default 1e-8.
        differentiable: compute by :func:`pyhue.nn.functional.pixel_density`, which has a gradient to the
            activations, and whose page says what `eps` is good for training; otherwise there is none.
            Default False.

    Shape:
        feature maps (images, dim, H, W), or pixel vectors (images, pixels, dim), of any floating dtype, to
        log-likelihoods (images, num_classes), float32, of float64 activations float64: 16 bits would tie
        classes, and in float16 most would be -inf.

    Example:
        >>> memory = PixelMemory(dim=4)
        >>> memory.add(torch.eye(4)[:, None], labels=[0, 0, 1, 1])
        >>> MemoryClassifier(memory)(torch.eye(4)[:, :, None, None]).argmax(dim=1)
        tensor([0, 0, 1, 1])
    """

    def __init__(self, memory: PixelMemory, k: int = 10, eps: float = 1e-8, differentiable: bool = False):
        super().__init__()
        self.k, self.eps, self.differentiable = k, eps, differentiable
        self.memory = memory

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.memory = self._memory  # a copy has a memory of its own

    @property
    def memory(self) -> PixelMemory:
        """What is searched."""
        return self._memory

    @memory.setter
    def memory(self, memory: PixelMemory) -> None:
        self._memory, self.num_classes = memory, memory.num_classes
        self._handle = handle_of(memory)

    def forward(self, activations: Tensor) -> Tensor:
        """Log-likelihoods of the classes for each image; see the class."""
        if self.differentiable:
            return _density.log_likelihood(activations, self._handle, self.num_classes, self.k, self.eps)
        result: Tensor = _log_likelihood(
            activations.detach(), self._handle, self.num_classes, self.k, self.eps
        )
        return result

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.memory!r}, k={self.k}, eps={self.eps}, differentiable={self.differentiable}"


# A graph that torch.compile captures would keep the memory as it was then.
@torch.library.custom_op("pyhue::memory_log_likelihood", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _log_likelihood(activations: Tensor, memory: Tensor, num_classes: int, k: int, eps: float) -> Tensor:
    """Operators take no Python objects: `memory` is a handle."""
    searched = memory_of(memory)
    there = activations.is_cuda and searched.device.startswith("cuda")
    found: Tensor = searched.log_likelihood(activations if there else activations.cpu(), k, eps)
    if found.shape[1] != num_classes:
        raise ValueError(
            f"memory: expected {num_classes} classes, as when the layer was made, got {found.shape[1]}"
        )
    return found.to(activations.device, _score_type(activations))


@_log_likelihood.register_fake
def _(activations: Tensor, memory: Tensor, num_classes: int, k: int, eps: float) -> Tensor:
    shape = (activations.shape[0], num_classes)
    return activations.new_empty(shape, dtype=_score_type(activations))


def _score_type(activations: Tensor) -> torch.dtype:
    return torch.promote_types(activations.dtype, torch.float32)
