"""A memory as a layer: its class log-likelihoods, computed by a custom operator."""

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from pyhue.memory import PixelMemory

_handles = itertools.count()
_memories: "weakref.WeakValueDictionary[int, PixelMemory]" = weakref.WeakValueDictionary()


class MemoryClassifier(nn.Module):
    """`PixelMemory.log_likelihood` as a layer that compiles, with `torch.compile(fullgraph=True)` too.

    The search runs where `PixelMemory.to` put it and has no gradient. The memory is not part of the state
    dict: save it with `PixelMemory.save`.

    Args:
        memory: filled already; its classes are counted here.
        k: neighbours of each pixel vector. Default 10.
        eps: added to the squared bandwidth. Default 1e-8.

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

    def __init__(self, memory: PixelMemory, k: int = 10, eps: float = 1e-8):
        super().__init__()
        self.memory = memory
        self.num_classes, self.k, self.eps = memory.num_classes, k, eps
        self._register()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._register()  # a copy has a memory of its own

    def _register(self) -> None:
        self._handle = next(_handles)
        _memories[self._handle] = self.memory

    def forward(self, activations: Tensor) -> Tensor:
        """Log-likelihoods of the classes for each image; see the class."""
        result: Tensor = _log_likelihood(
            activations.detach(), self._handle, self.num_classes, self.k, self.eps
        )
        return result

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.memory!r}, k={self.k}, eps={self.eps}"


# A graph that torch.compile captures would keep the memory as it was then.
@torch.library.custom_op("pyhue::memory_log_likelihood", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _log_likelihood(activations: Tensor, memory: int, num_classes: int, k: int, eps: float) -> Tensor:
    """Operators take no Python objects: `memory` is a handle."""
    searched = _memories[memory]
    there = activations.is_cuda and searched.device.startswith("cuda")
    found: Tensor = searched.log_likelihood(activations if there else activations.cpu(), k, eps)
    if found.shape[1] != num_classes:
        raise ValueError(
            f"memory: expected {num_classes} classes, as when the layer was made, got {found.shape[1]}"
        )
    return found.to(activations.device, _score_type(activations))


@_log_likelihood.register_fake
def _(activations: Tensor, memory: int, num_classes: int, k: int, eps: float) -> Tensor:
    shape = (activations.shape[0], num_classes)
    return activations.new_empty(shape, dtype=_score_type(activations))


def _score_type(activations: Tensor) -> torch.dtype:
    return torch.promote_types(activations.dtype, torch.float32)
