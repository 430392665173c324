"""Where the vectors of a memory lie that a GPU searches: in pieces, on the GPU or on the host."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyhue import _core
from pyhue._search.stored import Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BLOCK, _SLAB = _core.block, _core.cuda_slab  # vectors and dimensions of a packed tile
_TERMS = _core.cuda_terms  # float32, of a packed vector
_COPIED_BYTES = 64 << 20  # of vectors that are copied to be packed
_STREAM_BYTES = 256 << 20  # of a piece that is copied for each search
_STEP = 256  # such pieces have a multiple of so many vectors


class Place(enum.Enum):
    """What of a piece lies on the GPU; the rest is page-locked memory of the host."""

    GPU = enum.auto()  #: all of it
    PACKED = enum.auto()  #: the packed form; candidates' vectors are read over the bus
    HOST = enum.auto()  #: nothing; each search copies the packed form


class Piece(NamedTuple):
    """Vectors of a memory, one after the other, as `csrc/cuda/search.h` takes them."""

    first: int  #: how many findable vectors of the memory come before
    vectors: Tensor  #: (n, dim) float32 or bfloat16
    blocks: Tensor  #: packed coordinates
    terms: Tensor  #: packed terms of the bound
    place: Place

    @property
    def size(self) -> int:
        """How many vectors it has."""
        return len(self.vectors)

    @property
    def gpu_bytes(self) -> int:
        """What it takes on the GPU."""
        packed = self.blocks.nbytes + self.terms.nbytes
        return {Place.GPU: packed + self.vectors.nbytes, Place.PACKED: packed, Place.HOST: 0}[self.place]

    @property
    def grows(self) -> bool:
        """Whether vectors that follow may be put into it: by making it anew."""
        return self.place is not Place.HOST or self.size < stream_vectors(self.vectors.shape[1])


def packed_bytes(dim: int) -> int:
    """Bytes of a packed vector."""
    return -(-dim // _SLAB) * _SLAB * 2 + 4 * _TERMS


def stream_vectors(dim: int) -> int:
    """How many vectors a piece has that is copied for each search."""
    return max(_STEP, _STREAM_BYTES // packed_bytes(dim) // _STEP * _STEP)


def places(
    count: int, dim: int, vector_bytes: int, room: int, buffers: int = 0
) -> Iterator[tuple[int, Place]]:
    """Cuts `count` vectors so that what is put on the GPU fits its room.

    Args:
        count: how many vectors.
        dim: their channels.
        vector_bytes: of a vector as it is stored.
        room: bytes, for two buffers too: where these alone do not fit, nothing else is put there.
        buffers: bytes of the buffers that are there.
    """
    packed, streamed = packed_bytes(dim), stream_vectors(dim)
    if count * (vector_bytes + packed) <= room - buffers:
        yield count, Place.GPU
        return
    if count * packed <= room - buffers:
        yield count, Place.PACKED
        return
    here = max(0, room - 2 * streamed * packed) // packed // _STEP * _STEP
    if here:
        yield here, Place.PACKED
    for begin in range(here, count, streamed):
        yield min(streamed, count - begin), Place.HOST


def make_piece(stored: Stored, first: int, count: int, place: Place, center: Tensor, ops: Any) -> Piece:
    """Copies and packs `count` findable vectors from the `first` on; `center` says to which GPU."""
    import torch

    device = center.device
    dtype = torch.bfloat16 if stored.array.itemsize == 2 else torch.float32
    where = {"device": device} if place is Place.GPU else {"pin_memory": device.type == "cuda"}
    vectors = torch.empty((count, stored.dim), dtype=dtype, **where)
    for begin, part in _copied(stored, first, count):
        vectors[begin : begin + len(part)].copy_(part)
    blocks, terms = pack(vectors, center, ops)
    if place is Place.HOST:
        blocks, terms = _on_host(blocks, device), _on_host(terms, device)
    return Piece(first, vectors, blocks, terms, place)


def pack(vectors: Tensor, center: Tensor, ops: Any) -> tuple[Tensor, Tensor]:
    """The packed form of vectors, on the GPU of `center`, wherever they lie: blocks and terms."""
    import torch

    n, dim = vectors.shape
    shapes = (-(-n // _BLOCK), -(-dim // _SLAB), _BLOCK, _SLAB), (-(-n // _BLOCK), _TERMS, _BLOCK)
    blocks = torch.empty(shapes[0], dtype=torch.bfloat16, device=center.device)
    terms = torch.empty(shapes[1], dtype=torch.float32, device=center.device)
    at_once = max(1, _COPIED_BYTES // (dim * vectors.itemsize * _BLOCK)) * _BLOCK
    for begin in range(0, n, at_once):  # copied, because the kernel reads rows twice
        part = vectors[begin : begin + at_once].to(center.device)
        ops.pack_vectors(part, center, blocks[begin // _BLOCK :], terms[begin // _BLOCK :])
    return blocks, terms


def _copied(stored: Stored, first: int, count: int) -> Iterator[tuple[int, Tensor]]:
    """Some of the findable vectors, a few at a time: copies, because what is stored may be read-only."""
    import torch

    at_once = max(1, _COPIED_BYTES // (stored.dim * stored.array.itemsize))
    for begin in range(0, count, at_once):
        places = np.arange(first + begin, first + min(count, begin + at_once))
        rows = places + np.searchsorted(stored.shifts, places, side="right")
        part = stored.array[rows]
        if part.itemsize == 2:
            yield begin, torch.from_numpy(part.view(np.int16)).view(torch.bfloat16)
        else:
            yield begin, torch.from_numpy(part)


def _on_host(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy in memory of the host that `device` reads itself."""
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=device.type == "cuda").copy_(tensor)
