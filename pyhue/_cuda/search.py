"""Search and classification on a GPU, for a memory that `PixelMemory.to` moved there."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from pyhue._arrays import FLOATS, floating, is_tensor, positive_integer, positive_number, vector_rows
from pyhue._cuda.index import DeviceIndex, operators
from pyhue.pixel_vectors import image_vectors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pyhue.memory import PixelMemory


def device_search(device: Any, max_bytes: int | None) -> DeviceSearch | None:
    """What searches on `device`, or None for the CPU; `max_bytes` as for `PixelMemory.to`.

    Raises:
        ImportError: torch or the operators are not installed.
        RuntimeError, TypeError: torch has no such device.
    """
    if str(device) == "cpu":
        return None
    import torch

    where = torch.device(device)
    if where.type == "cpu":
        return None
    if where.type != "cuda":
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {str(device)!r}")
    ops = operators(where)
    if where.index is None:
        where = torch.device("cuda", torch.cuda.current_device())
    return DeviceSearch(where, ops, max_bytes)


class DeviceSearch:
    """Answers as `PixelMemory` does, on the GPU; its copy of the memory follows what is added.

    Tensors that lie on the GPU are not looked at by the host: a query that is not finite gives NaN there.
    """

    def __init__(self, device: torch.device, ops: Any, max_bytes: int | None = None):
        self.device = device
        self._ops = ops
        self._max_bytes = max_bytes
        self._index: DeviceIndex | None = None
        self._copying = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy makes its own tensors, when it searches."""
        return device_search, (str(self.device), self._max_bytes)

    def search(self, memory: PixelMemory, vectors: Any, k: int) -> tuple[Any, Any]:
        """`PixelMemory.search`."""
        queries = vectors if self._resident(vectors) else floating(vectors, "vectors")
        if queries.ndim < 1 or queries.shape[-1] != memory.dim:
            raise ValueError(f"vectors: expected shape (..., {memory.dim}), got {tuple(queries.shape)}")
        k = positive_integer(k, "k")
        index = self.ready_index(memory)
        found = index.search(
            self._rows(index, queries.reshape(-1, memory.dim), "vectors", memory.normalize), k
        )
        shape = (*queries.shape[:-1], k)
        distances, indices = (self._like(result.reshape(shape), vectors) for result in found)
        return distances, indices

    def log_likelihood(self, memory: PixelMemory, activations: Any, k: int, eps: float) -> Any:
        """`PixelMemory.log_likelihood`."""
        array = activations if self._resident(activations) else floating(activations, "activations")
        vectors = image_vectors(array, memory.dim)
        k, eps = positive_integer(k, "k"), positive_number(eps, "eps")
        index = self.ready_index(memory)
        images, pixels = vectors.shape[:2]
        flat = vectors.reshape(images * pixels, memory.dim)
        rows = self._rows(index, flat, "activations", memory.normalize)
        return self._like(index.log_likelihood(rows, images, k, eps), activations)

    def _resident(self, value: Any) -> bool:
        """Whether `value` is a tensor on a GPU; one that is must be floating."""
        if not is_tensor(value) or value.device.type != self.device.type:
            return False
        if str(value.dtype).removeprefix("torch.") not in FLOATS:
            raise TypeError(f"expected a tensor of one of {', '.join(FLOATS)}, got {value.dtype}")
        return True

    def _rows(self, index: DeviceIndex, queries: Any, name: str, normalize: bool) -> Tensor:
        """Query rows on the device; those that come from the host are checked there."""
        import torch

        if is_tensor(queries):
            return index.rows(queries.to(self.device), normalize)
        rows: Tensor = torch.from_numpy(vector_rows(queries, name, normalize)).to(self.device)
        return rows

    def _like(self, result: Tensor, given: Any) -> Any:
        """`result` as the kind of array that `given` is, where that lies."""
        if self._resident(given):
            return result
        return result.cpu() if is_tensor(given) else result.cpu().numpy()

    def ready_index(self, memory: PixelMemory) -> DeviceIndex:
        """The index, holding every vector."""
        memory._require_vectors()
        with self._copying:
            index = self._index
            if index is None:
                index = DeviceIndex(memory.dim, self.device, self._ops, self._max_bytes)
            if len(index) != len(memory):
                if self.device.type == "cuda" and sys.modules["torch"].cuda.is_current_stream_capturing():
                    raise RuntimeError("memory: search once before a CUDA graph is captured, to copy vectors")
                self._index = None  # what fails half-way is begun anew
                labels, counts = np.asarray(memory.labels), np.asarray(memory.class_counts)
                index.update(memory._stored, labels, counts)
            self._index = index
            return index
