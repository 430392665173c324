"""Timing on a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

_CACHE_BYTES = 256 << 20  # more than any second-level cache


def medians(functions: dict[str, Callable[[], Any]], repeats: int = 20) -> dict[str, float]:
    """Milliseconds of each by device events, in turns, the caches filled with other data before each call.

    That data was read, not written: nobody waits for it to be written back.
    """
    other = torch.ones(_CACHE_BYTES // 4, device="cuda")
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 3):
        for name, function in functions.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            other.sum()
            begin.record()
            function()
            end.record()
            end.synchronize()
            if turn >= 3:  # the first turns compile and allocate
                times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(values) for name, values in times.items()}


def captured(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function as a CUDA graph: what the GPU takes, without the host's part."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is compiled or allocated once must not be captured
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return lambda: (graph.replay(), results)


def copy_bandwidth() -> float:
    """Bytes a second of a large copy, read and written."""
    a = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() / (medians({"copy": lambda: b.copy_(a)})["copy"] / 1e3)


def matrix_rate() -> float:
    """Operations a second of a large bfloat16 matrix product of random numbers."""
    a = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    return 2 * 8192**3 / (medians({"matmul": lambda: a @ a})["matmul"] / 1e3)
