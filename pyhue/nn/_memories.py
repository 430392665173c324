"""Memories as operators take them, who take no Python objects: by a handle, a tensor of one number.

A tensor, not an integer: a compiled graph reads it anew, so that another memory is no reason to compile
again.
"""

import itertools
import weakref

import torch
from torch import Tensor

from pyhue.memory import PixelMemory

_numbers = itertools.count()
_memories: "weakref.WeakValueDictionary[int, PixelMemory]" = weakref.WeakValueDictionary()
_handles: "weakref.WeakKeyDictionary[PixelMemory, Tensor]" = weakref.WeakKeyDictionary()


def handle_of(memory: PixelMemory) -> Tensor:
    """The handle of a memory, good for as long as the memory lives."""
    id(memory)  # a compiled graph holds the handle as a constant: this makes it one of this memory only
    handle: Tensor = _handle_of(memory)
    return handle


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _handle_of(memory: PixelMemory) -> Tensor:
    handle = _handles.get(memory)
    if handle is None:
        number = next(_numbers)
        handle = torch.tensor(number, dtype=torch.int64, device="cpu")
        _memories[number], _handles[memory] = memory, handle
    return handle


def memory_of(handle: Tensor) -> PixelMemory:
    """The memory of a handle.

    Raises:
        RuntimeError: it is gone.
    """
    memory = _memories.get(int(handle))
    if memory is None:
        raise RuntimeError("memory: expected one that lives as long as the graph that asks it, it is gone")
    return memory
