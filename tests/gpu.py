"""A memory where the fixture `gpu` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyhue
from pyhue._cuda.search import DeviceSearch

if TYPE_CHECKING:
    from conftest import Gpu


def moved(memory: pyhue.PixelMemory, gpu: Gpu, max_bytes: int | None = None) -> pyhue.PixelMemory:
    """The memory itself, searched there from now on."""
    if gpu.device.type == "cuda":
        return memory.to("cuda", max_bytes)
    memory._on_gpu = DeviceSearch(gpu.device, gpu.ops, max_bytes)
    return memory
