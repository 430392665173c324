"""The operators of pyhue for tensors on a GPU."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def operators(device: torch.device) -> Any:
    """The operators for a memory on `device`, loaded.

    Raises:
        ImportError: pyhue was built without them.
        RuntimeError: torch has no such device.
    """
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"device: expected one that torch can use, got {device}, and torch finds no GPU")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise RuntimeError(f"device: expected one of {torch.cuda.device_count()} GPUs, got {device}")
    spec = importlib.util.find_spec("pyhue._torch_cuda")
    if spec is None or spec.origin is None:
        raise ImportError(
            "pyhue was built without CUDA, because there was no nvcc or no torch with CUDA: reinstall it, "
            "from its source folder (pip install --no-build-isolation --force-reinstall --no-deps .)"
        )
    torch.ops.load_library(spec.origin)  # type: ignore[no-untyped-call]
    return torch.ops.pyhue
