"""Search on a GPU, where `to` moved it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pyhue._arrays import FLOATS, floating, is_tensor, neighbor_count
from pyhue._cuda.index import MAX_K, DeviceIndex
from pyhue._cuda.operators import operators
from pyhue._cuda.stream import require_no_capture
from pyhue._locks import Lock
from pyhue._rows import query_rows
from pyhue._search.selection import EVERYTHING, Selection
from pyhue._search.stored import Stored, require_queries, require_vectors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Vectors = TypeVar("Vectors", bound=Stored)


def device_search(device: Any, normalize: bool, max_bytes: int | None) -> DeviceSearch | None:
    """What searches on `device`, or None for the CPU; `max_bytes` as for `VectorMemory.to`.

    Raises:
        ValueError: there is no such kind of device.
        ImportError: torch or the operators are not installed.
        RuntimeError: torch has no such device.
    """
    kind, _, number = str(device).partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() or str(device) == kind):
        raise ValueError(f"device: expected 'cpu' or 'cuda', with or without a number, got {str(device)!r}")
    if kind == "cpu":
        return None
    import torch

    where = torch.device(device)
    ops = operators(where)
    if where.index is None:
        where = torch.device("cuda", torch.cuda.current_device())
    return DeviceSearch(where, ops, normalize, max_bytes)


class DeviceSearch:
    """Answers as `HostSearch` does, on the GPU; its copy of the vectors follows what is added.

    Tensors that lie on the GPU are not looked at by the host: a query that is not finite gives NaN there.
    """

    def __init__(self, device: torch.device, ops: Any, normalize: bool, max_bytes: int | None = None):
        self.device = device
        self.ops = ops
        self._normalize = normalize
        self._max_bytes = max_bytes
        self._index: DeviceIndex | None = None
        self._launching = Lock()  # of searches, which share buffers, and of copies

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy makes its own tensors, when it searches."""
        return device_search, (str(self.device), self._normalize, self._max_bytes)

    def search(
        self, latest: Callable[[], Stored], queries: Any, k: int, selection: Selection = EVERYTHING
    ) -> tuple[Any, Any]:
        """Distances and indices (..., k) of queries (..., dim), as and where these are."""
        given = self.accepted(queries, "queries")
        dim = require_queries(given, latest().dim)
        chosen = selection.of_queries(given.shape[:-1])
        found = self.neighbors(latest, given.reshape(-1, dim), "queries", k, chosen)[1:]
        shape = (*given.shape[:-1], k)
        distances, indices = (self.like(result.reshape(shape), queries) for result in found)
        return distances, indices

    def neighbors(
        self,
        latest: Callable[[], Vectors],
        queries: Any,
        name: str,
        k: int,
        selection: Selection = EVERYTHING,
    ) -> tuple[Vectors, Tensor, Tensor]:
        """The vectors that were searched; distances and rows (n, k), on the GPU, of queries (n, dim)."""
        require_vectors(latest())
        if neighbor_count(k, len(latest())) > MAX_K:
            raise ValueError(f"k: expected at most {MAX_K} on a GPU, got {k}")
        rows = self._rows(queries, name)
        with self._launching.held():
            stored = latest()
            index = self._ready_index(stored)
            distances, indices = index.search(rows, k, index.chosen(stored, selection))
        if self._normalize:
            zero = (rows == 0).all(dim=1, keepdim=True)
            distances, indices = distances.masked_fill(zero, float("inf")), indices.masked_fill(zero, -1)
        return stored, distances, indices

    def within(
        self, latest: Callable[[], Stored], queries: Any, radius: float, selection: Selection = EVERYTHING
    ) -> tuple[Any, Any, Any]:
        """Limits (n + 1,), distances and indices of queries (n, dim), as and where these are."""
        import torch

        require_vectors(latest())
        given = self.accepted(queries, "queries")
        dim = require_queries(given, latest().dim)
        if given.ndim != 2:
            raise ValueError(f"queries: expected shape (n, {dim}), got {tuple(given.shape)}")
        chosen = selection.of_queries(given.shape[:1])
        require_no_capture(self.device, "within: a CUDA graph cannot hold results of unknown size")
        rows = self._rows(given, "queries")
        if self._normalize:  # what has no direction finds nothing, and neither does NaN
            rows = rows.masked_fill((rows == 0).all(dim=1, keepdim=True), float("nan"))
        with self._launching.held():
            stored = latest()
            index = self._ready_index(stored)
            counts, distances, indices = index.within(rows, radius, index.chosen(stored, chosen))
        limits = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
        return self.like(limits, queries), self.like(distances, queries), self.like(indices, queries)

    def pieces(self, stored: Stored, indices: Tensor) -> tuple[list[Tensor], Tensor]:
        """`DeviceIndex.neighbors` of rows of `stored`."""
        with self._launching.held():
            return self._ready_index(stored).neighbors(indices)

    def accepted(self, value: Any, name: str) -> Any:
        """`value`, floating: a tensor where it lies on the GPU, or else an array."""
        return value if self._resident(value, name) else floating(value, name)

    def like(self, result: Tensor, given: Any) -> Any:
        """`result` as the kind of array that `given` is, where that lies."""
        if self._resident(given, ""):
            return result
        return result.cpu() if is_tensor(given) else result.cpu().numpy()

    def explain(self) -> dict[str, Any]:
        """Where the vectors lie; empty before the first search."""
        with self._launching.held():
            return self._index.explain() if self._index else {}

    def _resident(self, value: Any, name: str) -> bool:
        """Whether `value` is a tensor on a GPU; one that is must be floating."""
        if not is_tensor(value) or value.device.type != self.device.type:
            return False
        if str(value.dtype).removeprefix("torch.") not in FLOATS:
            raise TypeError(f"{name}: expected a tensor of one of {', '.join(FLOATS)}, got {value.dtype}")
        return True

    def _rows(self, queries: Any, name: str) -> Tensor:
        """Query rows on the device; those that come from the host are checked there."""
        import torch

        if not is_tensor(queries):
            return torch.from_numpy(query_rows(queries, name, self._normalize)[0]).to(self.device)
        wide = queries.dtype if queries.dtype == torch.float64 else torch.float32
        there = queries.detach().to(self.device, wide).contiguous()
        rows: Tensor = self.ops.store_rows(there, self._normalize)  # NaN if not finite
        return rows

    def _ready_index(self, stored: Stored) -> DeviceIndex:
        """The index, holding every findable vector, and maybe some that came later."""
        index = self._index
        if index is None or index.epoch != stored.epoch:
            index = DeviceIndex(stored.dim, self.device, self.ops, self._max_bytes, stored.epoch)
        if len(index) < len(stored):
            require_no_capture(self.device)
            self._index = None  # what fails half-way is begun anew
            index.update(stored)
        self._index = index
        return index
