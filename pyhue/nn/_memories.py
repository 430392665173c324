"""Memories as operators take them: by a handle, a tensor of one number, because they take no Python objects.

A tensor, not an integer: a compiled graph reads it anew, so that another memory is no reason to compile again.
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
    id(memory)  # a graph that is compiled holds the handle as a constant: this makes it one of this memory only
    return _handle_of(memory)


@torch.compiler.assume_constant_result
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
