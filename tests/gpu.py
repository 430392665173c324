"""A memory where the fixture `gpu` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pyhue
from pyhue._cuda.search import DeviceSearch

if TYPE_CHECKING:
    from conftest import Gpu

Memory = TypeVar("Memory", pyhue.PixelMemory, pyhue.VectorMemory)


def moved(memory: Memory, gpu: Gpu, max_bytes: int | None = None) -> Memory:
    """The memory itself, searched there from now on."""
    if gpu.device.type == "cuda":
        return memory.to("cuda", max_bytes)
    vectors = getattr(memory, "_memory", memory)
    vectors._on_gpu = DeviceSearch(gpu.device, gpu.ops, memory.normalize, max_bytes)
    return memory
