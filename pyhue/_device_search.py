"""Search and classification on a GPU, for a memory that `PixelMemory.to` moved there."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from pyhue._arrays import FLOATS, floating, is_tensor, positive_integer, positive_number, vector_rows
from pyhue._device_index import DeviceIndex, operators
from pyhue.pixel_vectors import pixel_vectors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pyhue.memory import PixelMemory


def device_search(device: Any) -> DeviceSearch | None:
    """What searches on `device`, or None for the CPU.

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
    return DeviceSearch(where, ops)


class DeviceSearch:
    """Answers as `PixelMemory` does, on the GPU; its copy of the memory follows what is added.

    Tensors that lie on the GPU are not looked at by the host: a query that is not finite gives NaN there.
    """

    def __init__(self, device: torch.device, ops: Any):
        self.device = device
        self._ops = ops
        self._index: DeviceIndex | None = None
        self._copying = threading.Lock()

    def search(self, memory: PixelMemory, vectors: Any, k: int) -> tuple[Any, Any]:
        """`PixelMemory.search`."""
        queries = vectors if self._resident(vectors) else floating(vectors, "vectors")
        if queries.ndim < 1 or queries.shape[-1] != memory.dim:
            raise ValueError(f"vectors: expected shape (..., {memory.dim}), got {tuple(queries.shape)}")
        k = positive_integer(k, "k")
        index = self._ready_index(memory)
        found = index.search(
            self._rows(index, queries.reshape(-1, memory.dim), "vectors", memory.normalize), k
        )
        shape = (*queries.shape[:-1], k)
        distances, indices = (self._like(result.reshape(shape), vectors) for result in found)
        return distances, indices

    def log_likelihood(self, memory: PixelMemory, activations: Any, k: int, eps: float) -> Any:
        """`PixelMemory.log_likelihood`."""
        return self._like(self._log_likelihood(memory, activations, k, eps), activations)

    def predict(self, memory: PixelMemory, activations: Any, k: int, eps: float) -> Any:
        """`PixelMemory.predict`."""
        return self._like(self._log_likelihood(memory, activations, k, eps).argmax(1), activations)

    def to_host(self, value: Any) -> Any:
        """`value`, or its copy on the CPU where it is a tensor on a GPU."""
        return value.cpu() if is_tensor(value) else value

    def _log_likelihood(self, memory: PixelMemory, activations: Any, k: int, eps: float) -> Tensor:
        array = activations if self._resident(activations) else floating(activations, "activations")
        maps = array.ndim == 4 and array.shape[1] == memory.dim
        if not maps and (array.ndim != 3 or array.shape[2] != memory.dim):
            raise ValueError(
                f"activations: expected shape (images, pixels, {memory.dim}) or "
                f"(images, {memory.dim}, H, W), got {tuple(array.shape)}"
            )
        vectors = pixel_vectors(array) if maps else array
        k, eps = positive_integer(k, "k"), positive_number(eps, "eps")
        index = self._ready_index(memory)
        images, pixels = vectors.shape[:2]
        flat = vectors.reshape(images * pixels, memory.dim)
        rows = self._rows(index, flat, "activations", memory.normalize)
        return index.log_likelihood(rows, images, k, eps)

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

    def _ready_index(self, memory: PixelMemory) -> DeviceIndex:
        """The index, holding every vector: copied anew when vectors were added."""
        memory._require_vectors()
        with self._copying:
            if self._index is None or len(self._index) != len(memory):
                if self._index is not None and self.device.type == "cuda":
                    sys.modules["torch"].cuda.synchronize(self.device)  # other streams may be reading it
                self._index = None  # its memory is needed for the next one
                labels, counts = np.asarray(memory.labels), np.asarray(memory.class_counts)
                self._index = DeviceIndex(memory._stored, labels, counts, self.device, self._ops)
            return self._index
