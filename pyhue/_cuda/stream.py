"""Copies pieces of a memory to the GPU for a search, one while another is searched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyhue._cuda.pieces import Piece, Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def wait_for(device: torch.device, process: int | None = None) -> None:
    """Waits for what runs on a GPU, but not while a graph is captured, which would spoil it.

    Nor in a process forked from `process`, which cannot use the GPU and has nothing running there.
    """
    import torch

    if device.type != "cuda" or process not in (None, os.getpid()):
        return
    if not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize(device)


def require_no_capture(
    device: torch.device,
    why: str = "memory: search once before a CUDA graph is captured, or predict once before one that "
    "predicts, to copy vectors and labels",
) -> None:
    """RuntimeError while a CUDA graph is captured, which would hold what is copied now."""
    import torch

    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(why)


class DeviceStream:
    """Two buffers and the stream that fills them; a device other than CUDA has no streams: the emulation."""

    def __init__(self, device: torch.device):
        import torch

        self._cuda = torch.cuda if device.type == "cuda" else None
        self._device = device
        self._buffers: list[tuple[Tensor, Tensor]] = []
        if self._cuda:
            self._stream: Any = self._cuda.Stream(device)
            self._filled, self._free = ([self._cuda.Event() for _ in range(2)] for _ in range(2))

    @property
    def nbytes(self) -> int:
        """What the buffers take."""
        return sum(blocks.nbytes + terms.nbytes for blocks, terms in self._buffers)

    def fit(self, pieces: list[Piece]) -> None:
        """Makes buffers that hold any of these pieces; nothing may be using the present ones."""
        import torch

        streamed = [piece for piece in pieces if piece.place is Place.HOST]
        largest = max(streamed, key=lambda piece: len(piece.blocks), default=None)
        if largest is None or (self._buffers and len(self._buffers[0][0]) >= len(largest.blocks)):
            return
        self._buffers = []  # their memory is needed for the next ones
        self._buffers = [
            (
                torch.empty_like(largest.blocks, device=self._device, pin_memory=False),
                torch.empty_like(largest.terms, device=self._device, pin_memory=False),
            )
            for _ in range(2)
        ]

    def on_gpu(self, pieces: list[Piece]) -> Iterator[Piece]:
        """The pieces, each on the GPU until the next one is asked for.

        What the caller does with them must go to the current stream. One caller at a time; a call may begin
        when all of the one before is in its stream.

        Raises:
            RuntimeError: there are pieces to copy while a CUDA graph is captured.
        """
        streamed = [piece for piece in pieces if piece.place is Place.HOST]
        if streamed and self._cuda and self._cuda.is_current_stream_capturing():
            raise RuntimeError("a CUDA graph cannot hold the search of a memory that is larger than the GPU")
        for i, piece in enumerate(streamed[:2]):
            self._start(piece, i)
        yield from (piece for piece in pieces if piece.place is not Place.HOST)
        for i, piece in enumerate(streamed):
            if self._cuda:
                self._cuda.current_stream(self._device).wait_event(self._filled[i % 2])
            blocks, terms = (buffer[: len(piece.blocks)] for buffer in self._buffers[i % 2])
            yield piece._replace(blocks=blocks, terms=terms)
            if self._cuda:
                self._free[i % 2].record(self._cuda.current_stream(self._device))
            if i + 2 < len(streamed):
                self._start(streamed[i + 2], i % 2)

    def _start(self, piece: Piece, which: int) -> None:
        """Fills a buffer when the search that reads it is over."""
        with self._cuda.stream(self._stream) if self._cuda else contextlib.nullcontext():
            if self._cuda:
                self._stream.wait_event(self._free[which])
            for buffer, source in zip(self._buffers[which], (piece.blocks, piece.terms), strict=True):
                buffer[: len(source)].copy_(source, non_blocking=True)
            if self._cuda:
                self._filled[which].record(self._stream)
