"""A memory as a GPU searches it: torch tensors, kept in step with a growing array of vectors."""

from __future__ import annotations

import importlib.util
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyhue._cuda.pieces import Piece, make_piece, places
from pyhue._cuda.stream import DeviceStream
from pyhue._search.stored import Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_K = 1024
_MAX_VECTORS = 2**31 - 1
_MEAN_VECTORS = 65536  # whose mean is the centre: whatever it is, search is exact
_SCRATCH_BYTES = 200 << 20  # of a search, at most


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


def _wait_for(device: torch.device, process: int | None = None) -> None:
    """Waits for what runs on a GPU, but not while a graph is captured, which would spoil it.

    Nor in a process forked from `process`, which cannot use the GPU and has nothing running there.
    """
    import torch

    if device.type != "cuda" or process not in (None, os.getpid()):
        return
    if not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize(device)


class DeviceIndex:
    """What `csrc/cuda/search.h` searches.

    A vector of `dim` channels takes what it takes on the CPU, and 2 dim + 12 bytes packed (dim rounded up to
    64). What finds no room on the GPU lies in page-locked memory of the host: `Place` says in what order.
    """

    def __init__(self, dim: int, device: torch.device, ops: Any, max_bytes: int | None = None):
        import torch

        self.device = device
        self._ops = ops
        self._max_bytes = max_bytes
        self._pieces: list[Piece] = []
        self._stream = DeviceStream(device)
        self._searching = threading.Lock()  # the buffers of the stream are shared
        self._center = torch.zeros(dim, dtype=torch.float64, device=device)
        self._labels = torch.zeros(0, dtype=torch.int64, device=device)
        self._class_counts = self._labels
        # Searches under way read the tensors, whose memory torch may give to others as soon as they are gone.
        weakref.finalize(self, _wait_for, device, os.getpid())

    def __len__(self) -> int:
        """How many vectors it holds."""
        return sum(piece.size for piece in self._pieces)

    def update(self, stored: Stored, labels: NDArray[np.int64], class_counts: NDArray[np.int64]) -> None:
        """Copies the vectors that were added since the last call.

        Later pieces are made anew together with what follows until each is longer than all after it, so that
        there are few, and a vector is copied a few times at most while the memory grows.
        """
        import torch

        if len(stored) > _MAX_VECTORS:
            raise ValueError(f"memory: expected at most {_MAX_VECTORS} vectors on a GPU, got {len(stored)}")
        _wait_for(self.device)  # searches may be reading what goes away
        begin, pieces = len(self), self._pieces
        while pieces and pieces[-1].grows and pieces[-1].size <= len(stored) - begin:
            begin = pieces.pop().first
        if begin == 0:
            some = stored.rows(slice(None, None, -(-len(stored) // _MEAN_VECTORS)))
            self._center = torch.from_numpy(some).to(self.device).mean(0, dtype=torch.float64)
        vector_bytes = stored.dim * stored.array.itemsize
        left, room, buffers = len(stored) - begin, self._room(), self._stream.nbytes
        for count, place in places(left, stored.dim, vector_bytes, room, buffers):
            pieces.append(make_piece(stored, begin, count, place, self._center, self._ops))
            begin += count
        self._stream.fit(pieces)
        added = torch.tensor(labels[len(self._labels) :], device=self.device)
        self._labels = torch.cat((self._labels, added))
        self._class_counts = torch.tensor(class_counts, device=self.device)
        _wait_for(self.device)  # whatever stream searches next

    def rows(self, queries: Tensor, normalize: bool) -> Tensor:
        """Floating (n, dim) as the kernels take them: float32, of unit length if asked; NaN if not finite."""
        import torch

        wide = queries.dtype if queries.dtype == torch.float64 else torch.float32
        rows: Tensor = self._ops.store_rows(queries.detach().to(wide).contiguous(), normalize)
        return rows

    def search(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances, indices (n, k) of the k nearest to each of `rows` (n, dim); NaN and -1 for NaN rows."""
        import torch

        if k > MAX_K:
            raise ValueError(f"k: expected at most {MAX_K} on a GPU, got {k}")
        found = [self._search(batch, k) for batch in torch.split(rows, self._ops.search_batch(rows, k))]
        if len(found) == 1:
            return found[0]
        distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, indices

    def log_likelihood(self, rows: Tensor, images: int, k: int, eps: float) -> Tensor:
        """Float64 (images, num_classes) from the rows of each image's pixels, one after the other."""
        shape = (images, len(rows) // max(1, images), k)
        distances, indices = (found.reshape(shape) for found in self.search(rows, k))
        return self.density(distances, indices, eps)[0]

    def density(self, distances: Tensor, indices: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Float64 (images, num_classes) from neighbours (images, pixels, k); their labels, and class counts."""
        labels = self._labels[indices.clamp(min=0)].masked_fill(indices < 0, -1)
        return self._ops.density(distances, labels, self._class_counts, eps), labels, self._class_counts

    def density_distances(self, activations: Tensor, indices: Tensor, normalize: bool) -> Tensor:
        """Float64 distances (images, pixels, k) of float64 activations (images, pixels, dim)."""
        distances: Tensor = self._ops.density_distances(activations, self._vectors, indices, normalize)
        return distances

    def density_backward(self, *tensors: Tensor, normalize: bool, eps: float) -> Tensor:
        """The gradient of activations (images, pixels, dim); `tensors` as the operator takes them."""
        gradient: Tensor = self._ops.density_backward(*tensors, self._vectors, normalize, eps)
        return gradient

    @property
    def _vectors(self) -> list[Tensor]:
        """What is stored, in the order of rows."""
        return [piece.vectors for piece in self._pieces]

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        common = (queries, self._center, k)
        scratch, searched = self._ops.begin_search(*common), 0
        with self._searching:
            for piece in self._stream.on_gpu(self._pieces):
                arrays = (piece.vectors, piece.first, piece.blocks, piece.terms)
                self._ops.search_piece(scratch, *common, *arrays, searched)
                searched += piece.size
        distances, indices = self._ops.end_search(scratch, *common)
        return distances, indices

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
