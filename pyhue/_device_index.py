"""A memory on the GPU: the arrays that its kernels search, as torch tensors."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyhue._stored import Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_K = 1024
_MAX_VECTORS = 2**31 - 1
_MEAN_ROWS = 65536  # vectors summed at once


def operators(device: torch.device) -> Any:
    """The operators for a memory on `device`, loaded.

    Raises:
        ImportError: pyhue was built without them.
        RuntimeError: torch has no such device.
    """
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"device: expected one that torch can use, got {device}, and torch finds no GPU")
    spec = importlib.util.find_spec("pyhue._torch_cuda")
    if spec is None or spec.origin is None:
        raise ImportError(
            "pyhue was built without CUDA, because there was no nvcc or no torch with CUDA: reinstall it, "
            "from its source folder (pip install --no-build-isolation --force-reinstall --no-deps .)"
        )
    torch.ops.load_library(spec.origin)  # type: ignore[no-untyped-call]
    return torch.ops.pyhue


class DeviceIndex:
    """What `csrc/cuda/search.h` searches; holds the vectors that were there when it was made.

    Stored vectors take what they take on the CPU, and their packed form 2 dim + 12 bytes each.
    """

    def __init__(
        self,
        stored: Stored,
        labels: NDArray[np.int64],
        class_counts: NDArray[np.int64],
        device: torch.device,
        ops: Any,
    ):
        import torch

        if len(stored) > _MAX_VECTORS:
            raise ValueError(f"memory: expected at most {_MAX_VECTORS} vectors on a GPU, got {len(stored)}")
        self._ops = ops
        vectors = torch.from_numpy(
            stored.array.view(np.int16) if stored.array.itemsize == 2 else stored.array
        )
        self._vectors = vectors.to(device, copy=True)
        if stored.array.itemsize == 2:
            self._vectors = self._vectors.view(torch.bfloat16)
        self._labels = torch.tensor(labels, device=device)
        self._class_counts = torch.tensor(class_counts, device=device)
        total = torch.zeros(stored.dim, dtype=torch.float64, device=device)
        for start in range(0, len(stored), _MEAN_ROWS):
            total += self._vectors[start : start + _MEAN_ROWS].sum(0, dtype=torch.float64)
        self._center = total / len(stored)  # whatever it is, search is exact
        self._blocks, self._terms = ops.pack_vectors(self._vectors, self._center)
        if device.type == "cuda":  # whatever stream searches next
            torch.cuda.current_stream(device).synchronize()

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._vectors)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self._vectors.device

    def rows(self, queries: Tensor, normalize: bool) -> Tensor:
        """Floating (n, dim) as the kernels take them: float32, of unit length if asked; NaN if not finite."""
        import torch

        wide = queries.dtype if queries.dtype == torch.float64 else torch.float32
        rows: Tensor = self._ops.store_rows(queries.detach().to(wide).contiguous(), normalize)
        return rows

    def search(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances, indices (n, k) of the k nearest to each of `rows` (n, dim); NaN and -1 for NaN rows."""
        if k > MAX_K:
            raise ValueError(f"k: expected at most {MAX_K} on a GPU, got {k}")
        distances, indices = self._ops.search_vectors(
            self._vectors, self._blocks, self._terms, self._center, rows, k
        )
        return distances, indices

    def log_likelihood(self, rows: Tensor, images: int, k: int, eps: float) -> Tensor:
        """Float64 (images, num_classes) from the rows of each image's pixels, one after the other."""
        distances, indices = self.search(rows, k)
        labels = self._labels[indices.clamp(min=0)].masked_fill(indices < 0, -1)
        shape = (images, len(rows) // max(1, images), k)
        result: Tensor = self._ops.density(
            distances.reshape(shape), labels.reshape(shape), self._class_counts, eps
        )
        return result
