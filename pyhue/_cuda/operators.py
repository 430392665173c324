"""The operators of pyhue for tensors on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyhue._libraries import load_operators

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
    return load_operators("_torch_cuda")
