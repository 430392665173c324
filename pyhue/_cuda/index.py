"""Vectors as a GPU searches them: torch tensors, kept in step with what a memory stores."""

from __future__ import annotations

import logging
import math
import os
import weakref
from typing import TYPE_CHECKING, Any

from pyhue._cuda.chosen import EVERY, Chosen, DeviceChoices
from pyhue._cuda.pieces import Piece, Place, make_piece, places
from pyhue._cuda.stream import DeviceStream, wait_for
from pyhue._search.selection import Selection
from pyhue._search.stored import Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LOG = logging.getLogger("pyhue")

MAX_K = 1024
_MAX_VECTORS = 2**31 - 1
_MEAN_VECTORS = 65536  # whose mean is the centre: whatever it is, search is exact
_SCRATCH_BYTES = 200 << 20  # of a search, at most


class DeviceIndex:
    """What `csrc/cuda/search.h` searches: the findable vectors of a memory, one after the other, in pieces.

    One thread at a time may call. A vector of `dim` channels takes what it takes on the CPU, and 2 dim + 12
    bytes packed (dim rounded up to 64). What finds no room on the GPU lies in page-locked memory of the host:
    `Place` says in what order.
    """

    def __init__(
        self, dim: int, device: torch.device, ops: Any, max_bytes: int | None = None, epoch: int = 0
    ):
        import torch

        self.epoch = epoch  #: of the rows that it holds
        self.device = device
        self._ops = ops
        self._max_bytes = max_bytes
        self._pieces: list[Piece] = []
        self._stream = DeviceStream(device)
        self._choices = DeviceChoices(device)
        self._center = torch.zeros(dim, dtype=torch.float64, device=device)
        self._rows = 0  # of the memory, hidden ones included
        self._shifts = torch.zeros(0, dtype=torch.int64, device=device)  # `Stored.shifts`
        self._hidden = self._shifts
        # Searches under way read the tensors, whose memory torch may give to others as soon as they are gone.
        weakref.finalize(self, wait_for, device, os.getpid())

    def __len__(self) -> int:
        """How many rows of the memory it follows."""
        return self._rows

    def update(self, stored: Stored) -> None:
        """Copies the vectors that were added since the last call.

        Later pieces are made anew together with what follows until each is longer than all after it, so that
        there are few, and a vector is copied a few times at most while the memory grows.
        """
        import torch

        if len(stored) > _MAX_VECTORS:
            raise ValueError(f"memory: expected at most {_MAX_VECTORS} vectors on a GPU, got {len(stored)}")
        wait_for(self.device)  # searches may be reading what goes away
        begin, pieces = sum(piece.size for piece in self._pieces), self._pieces
        count = len(stored) - len(stored.hidden)
        while pieces and pieces[-1].grows and pieces[-1].size <= count - begin:
            begin = pieces.pop().first
        if begin == 0:
            some = stored.rows(slice(None, None, -(-len(stored) // _MEAN_VECTORS)))
            self._center = torch.tensor(some).to(self.device).mean(0, dtype=torch.float64)
        vector_bytes = stored.dim * stored.array.itemsize
        left, room, buffers = count - begin, self._room(), self._stream.nbytes
        for size, place in places(left, stored.dim, vector_bytes, room, buffers) if left else ():
            pieces.append(make_piece(stored, begin, size, place, self._center, self._ops))
            begin += size
        self._stream.fit(pieces)
        self._shifts = torch.tensor(stored.shifts, device=self.device)
        self._hidden = torch.tensor(stored.hidden, device=self.device)
        self._rows = len(stored)
        wait_for(self.device)  # whatever stream searches next
        if any(piece.place is not Place.GPU for piece in self._pieces):
            found = self.explain()
            _LOG.info(
                "%s has no room for all of %d vectors: %d lie there packed only, each search copies %d",
                self.device,
                found["vectors"],
                found["packed_on_gpu"],
                found["on_host"],
            )

    def rows(self, queries: Tensor, normalize: bool) -> Tensor:
        """Floating (n, dim) as the kernels take them: float32, of unit length if asked; NaN if not finite."""
        import torch

        wide = queries.dtype if queries.dtype == torch.float64 else torch.float32
        rows: Tensor = self._ops.store_rows(queries.detach().to(wide).contiguous(), normalize)
        return rows

    def chosen(self, stored: Stored, selection: Selection) -> Chosen:
        """Which of the vectors may be found, all of which are those of `stored`."""
        return self._choices.chosen(stored, selection, self._pieces)

    def search(self, rows: Tensor, k: int, chosen: Chosen = EVERY) -> tuple[Tensor, Tensor]:
        """Distances, rows (n, k) of the k nearest to each of `rows` (n, dim); NaN and -1 for NaN rows."""
        import torch

        found = [self._search(rows[some], k, chosen.of_some(some)) for some in self._batches(rows, k)]
        if len(found) == 1:
            return found[0]
        distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, indices

    def within(self, rows: Tensor, radius: float, chosen: Chosen = EVERY) -> tuple[Tensor, Tensor, Tensor]:
        """How many vectors (n,) each of `rows` (n, dim) has within the radius; their distances and rows.

        One query after the other, nearer first, ties by row. Waits for the GPU.
        """
        import torch

        batches = self._batches(rows, MAX_K)
        found = [self._within(rows[some], radius, chosen.of_some(some)) for some in batches]
        counts, keys = (torch.cat(parts) for parts in zip(*found, strict=True))
        queries = torch.repeat_interleave(torch.arange(len(rows), device=self.device), counts)
        order = keys.argsort()
        keys = keys[order[queries[order].argsort(stable=True)]]
        distances = (keys >> 32).to(torch.int32).view(torch.float32)
        return counts, distances, self._to_rows(keys & 0xFFFFFFFF)

    def neighbors(self, indices: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is stored, in pieces, and where in these, one after the other, some rows are."""
        import torch

        places = indices
        if len(self._hidden):
            places = indices - torch.searchsorted(self._hidden, indices)
        return [piece.vectors for piece in self._pieces], places

    def explain(self) -> dict[str, Any]:
        """How many vectors lie where, and what they take on the GPU."""
        sizes = {place: 0 for place in Place}
        for piece in self._pieces:
            sizes[piece.place] += piece.size
        packed = sum(piece.blocks.nbytes + piece.terms.nbytes for piece in self._pieces)
        return {
            "vectors": len(self),
            "on_gpu": sizes[Place.GPU],
            "packed_on_gpu": sizes[Place.PACKED],
            "on_host": sizes[Place.HOST],
            "gpu_bytes": sum(piece.gpu_bytes for piece in self._pieces) + self._stream.nbytes,
            "bytes_per_vector": (sum(piece.vectors.nbytes for piece in self._pieces) + packed) / len(self),
        }

    def _batches(self, rows: Tensor, k: int) -> list[slice]:
        """What is searched together; one at least."""
        size = self._ops.search_batch(rows, k)
        return [slice(begin, begin + size) for begin in range(0, max(1, len(rows)), size)]

    def _search(self, queries: Tensor, k: int, chosen: Chosen) -> tuple[Tensor, Tensor]:
        common = (queries, self._center, k)
        scratch, searched = self._ops.begin_search(*common, math.inf), 0
        for piece in self._stream.on_gpu(chosen.pieces(self._pieces)):
            arrays = (piece.vectors, piece.first, piece.blocks, piece.terms, searched)
            self._ops.search_piece(scratch, *common, *arrays, *chosen[:3], chosen.counts.get(piece.first))
            searched += chosen.size(piece)
        distances, indices = self._ops.end_search(scratch, *common)
        return distances, self._to_rows(indices)

    def _within(self, queries: Tensor, radius: float, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """How many each query found, and the keys of `search_within`, which goes through all twice."""
        import torch

        counts = torch.zeros(len(queries), dtype=torch.int64, device=self.device)
        scratch = self._ops.begin_search(queries, self._center, MAX_K, radius)

        def search(found: Tensor, keys: Tensor | None) -> None:
            for piece in self._stream.on_gpu(chosen.pieces(self._pieces)):
                arrays = (piece.vectors, piece.first, piece.blocks, piece.terms)
                self._ops.search_within(
                    scratch, queries, self._center, radius, *arrays, *chosen[:3], found, keys
                )

        search(counts, None)
        keys = counts.new_empty(int(counts.sum()))
        search(counts.cumsum(0) - counts, keys)
        return counts, keys

    def _to_rows(self, indices: Tensor) -> Tensor:
        """Rows of the memory of findable vectors; -1 stays."""
        import torch

        if not len(self._shifts):
            return indices
        return indices + torch.searchsorted(self._shifts, indices, right=True)

    def _room(self) -> int:
        """Bytes of the GPU for vectors that are not there yet and for buffers."""
        import torch

        if self._max_bytes is not None:
            return self._max_bytes - sum(piece.gpu_bytes for piece in self._pieces)
        if self.device.type != "cuda":
            return 2**63
        free, _ = torch.cuda.mem_get_info(self.device)
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(0.9 * (free + unused)) - _SCRATCH_BYTES + self._stream.nbytes
