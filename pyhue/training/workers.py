"""The processes of a run: one, or those that torchrun started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist


class Workers(NamedTuple):
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Sums of numbers over all processes, float64."""
        if self.size == 1:
            return list(numbers)
        on_gpu = dist.get_backend() == "nccl"
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device if on_gpu else "cpu")
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Gives every process the buffers that the first one has."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


@contextlib.contextmanager
def workers(device: str) -> Iterator[Workers]:
    """Joins the processes that torchrun started, if it did; leaves them at the end.

    Args:
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, or `"auto"`.

    Raises:
        ValueError: there is no such device.
    """
    rank, count = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    own = _device(device)
    if count == 1:
        yield Workers(0, 1, own)
        return
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)))
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield Workers(rank, count, own)
    finally:
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
