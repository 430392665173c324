"""A memory of vectors: exact nearest-neighbour search."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import boolean, is_tensor, like, positive_integer
from pyhue._cuda.search import DeviceSearch, device_search
from pyhue._locks import Lock
from pyhue._rows import sliceable, store_rows
from pyhue._saved import memory as memory_file
from pyhue._saved.plan import to_arrays, to_index
from pyhue._search.growing import GrowingArray
from pyhue._search.host import HostSearch
from pyhue._search.index import Index
from pyhue._search.stored import Stored

MAX_DIM = 4096


class SearchResult(NamedTuple):
    """What `search` returns; both have the queries' leading shape and k last."""

    distances: Any  #: float32, squared Euclidean, ascending; +inf where there is no neighbour
    indices: Any  #: int64, row of the memory; -1 where there is no neighbour


class VectorMemory:
    """Vectors, searched exactly: what FAISS's IndexFlatL2 answers.

    `add` numbers the vectors in the order of adding; `search` gives for each query the k nearest of them, by
    squared Euclidean distance; nothing is trained. Distances are computed in float32 over the stored vectors
    in a fixed order, ties to the lower row: results are exact and do not depend on batch size, threads, k or
    the CPU.

    Args:
        dim: channels of a vector, 1 to 4096.
        normalize: compare by direction: scale stored and query vectors to unit length, in float64. Squared
            distances are then 2 - 2 cos. A vector that is all zero has no direction: it keeps its row and is
            nobody's neighbour, and such a query finds nothing. Default True; False compares vectors as they
            are, zero ones like others.
        dtype: how vectors are stored, "float32" or "bfloat16", which takes half the memory; distances are
            exact with respect to the stored values. Default "float32".

    Inputs are NumPy arrays or torch CPU tensors of float16, bfloat16 (torch), float32 or float64, with any
    strides, after `to("cuda")` also CUDA tensors; results are of the same kind. Wrong input raises TypeError
    or ValueError naming the argument, and leaves the memory as it was.

    Any number of threads may search while others add: a search sees the memory as it was at one moment
    between its begin and its end. A pickle, or a copy for another process, takes the vectors and the packed
    form; both may be read-only there, as joblib's memory maps are.

    Example:
        >>> vectors = np.random.default_rng(0).random((1000, 32), dtype=np.float32)
        >>> memory = VectorMemory(dim=32)
        >>> memory.add(vectors)[-3:]
        array([997, 998, 999])
        >>> distances, indices = memory.search(vectors[:2], k=5)
        >>> indices[:, 0]
        array([0, 1])
    """

    def __init__(self, dim: int, normalize: bool = True, dtype: Literal["float32", "bfloat16"] = "float32"):
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype: expected 'float32' or 'bfloat16', got {dtype!r}")
        self.dim = positive_integer(dim, "dim", MAX_DIM)
        self.normalize = boolean(normalize, "normalize")
        self.dtype = dtype
        self._vectors = GrowingArray((self.dim,), np.float32 if dtype == "float32" else np.uint16)
        self._hidden = GrowingArray((), np.int64)
        self._stored = Stored(self._vectors.first(0), self._hidden.first(0))  # replaced as a whole
        self._adding = Lock()
        self._on_cpu = HostSearch(self.normalize)
        self._on_gpu: DeviceSearch | None = None

    def __len__(self) -> int:
        """How many vectors are stored."""
        return len(self._stored)

    def __repr__(self) -> str:
        return (
            f"VectorMemory(dim={self.dim}, normalize={self.normalize}, dtype={self.dtype!r}): "
            f"{len(self)} vectors"
        )

    def __getstate__(self) -> dict[str, Any]:
        """What is stored and how it is packed, and no more: not the room behind it."""
        settings = {name: getattr(self, name) for name in ("dim", "normalize", "dtype")}
        index = self._on_cpu.index  # before the vectors: holds nothing that came later
        return settings | {"stored": self._stored, "index": index, "on_gpu": self._on_gpu}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dim"], state["normalize"], state["dtype"])  # type: ignore[misc]
        self._begin_with(state["stored"], state["index"])
        self._on_gpu = copy.copy(state["on_gpu"])  # which follows this memory

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The stored vectors, float32 (len, dim), read-only; a copy when they are stored as bfloat16."""
        vectors = self._stored.rows(slice(None))
        vectors.flags.writeable = False
        return vectors

    def add(self, vectors: Any) -> Any:
        """Stores vectors behind those that are there.

        Args:
            vectors: (n, dim).

        Returns:
            int64 (n,), their rows, by which `search` names them.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: the shape is wrong, or a value is NaN, infinite or beyond what is stored; the message
                names the row.
        """
        given = sliceable(vectors, "vectors", resident=self._on_gpu is not None)
        if given.ndim != 2 or given.shape[1] != self.dim:
            raise ValueError(f"vectors: expected shape (n, {self.dim}), got {tuple(given.shape)}")
        with self._adding.held():
            begin = len(self)
            self._stored = self._extended(given, "vectors")
        rows = like(np.arange(begin, begin + len(given)), vectors)
        return rows.to(vectors.device) if is_tensor(vectors) else rows

    @property
    def device(self) -> str:
        """Where searches run: "cpu", or a GPU as torch names it."""
        return str(self._on_gpu.device) if self._on_gpu else "cpu"

    def to(self, device: Any, max_bytes: int | None = None) -> VectorMemory:
        """Moves searching to a GPU, or back to the CPU; returns the memory itself.

        The vectors stay on the CPU too; the first search after something was added copies that. Distances
        and indices are the same bits as on the CPU. Where queries are CUDA tensors, results are too, on the
        memory's GPU, computed on its current stream, and nothing waits for it: values are not checked, and a
        query that holds NaN or Inf gives distances of NaN and indices -1. There `k` is at most 1024.

        A memory may be larger than the GPU. First the vectors stay in page-locked memory of the host, a copy
        from which the GPU reads those of candidates; then the part of the packed form that finds no room
        does so too, and every search copies it, one piece while another is searched.

        A CUDA graph can hold a search, but not the copying of what was added: search once before capturing.
        Capture again after adding: the next search may free what the graph reads, as do `to` and the
        memory's end. A pickled memory is unpickled to the same device.

        Args:
            device: "cpu", "cuda", "cuda:1" or a torch.device.
            max_bytes: what the vectors may take on the GPU, with two buffers of at most 256 MiB for copies
                where these fit. Default: nine tenths of what is free.

        Raises:
            TypeError: `max_bytes` is not an integer.
            ValueError: another kind of device, or `max_bytes` is negative.
            RuntimeError: torch has no such device.
            ImportError: pyhue was built without CUDA.
        """
        if max_bytes is not None:
            max_bytes = positive_integer(max_bytes, "max_bytes", 2**63 - 1, smallest=0)
        self._on_gpu = device_search(device, self.normalize, max_bytes)
        return self

    def search(self, queries: Any, k: int = 10) -> SearchResult:
        """The k stored vectors nearest to each query.

        Args:
            queries: (..., dim).
            k: neighbours of each, at least 1. Where fewer can be found, the rest has index -1 and distance
                +inf; at most 65,536, or as many as are stored. Default 10.

        Returns:
            `SearchResult`: distances float32 (..., k), squared Euclidean, ascending, and indices int64
            (..., k), rows of the memory; ties go to the lower row.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: the memory is empty, the last dimension is not `dim`, a value is not finite, or `k` is
                out of range.
        """
        return SearchResult(*(self._on_gpu or self._on_cpu).search(self._newest, queries, k))

    def optimize(self) -> None:
        """Packs the memory in the form that makes search on the CPU fastest for vectors like these.

        Some stored vectors play the queries and the candidates are measured on a sample: which coordinates
        to keep, how many of them each filter reads. Results are the same before and after, and meanwhile
        other threads search. The first search of a memory of at least 20,000 vectors does this by itself;
        vectors added later are searched exactly too, so call it again when many have come. Takes seconds.

        Raises:
            ValueError: the memory is empty.
            RuntimeError: the memory is searched on a GPU, which has one packed form.
        """
        if self._on_gpu:
            raise RuntimeError(
                f"memory: optimize packs for search on the CPU, and this memory is searched on {self.device}"
            )
        self._on_cpu.optimize(self._newest)

    def explain(self) -> dict[str, Any]:
        """How what searches the memory has packed it. Empty before the first search.

        Returns:
            device, vectors (packed; those added since are searched too) and bytes_per_vector (stored and
            packed).

            On the CPU also plan ("plain": the channels themselves; "principal": principal directions), block_ends
            (where the stages of the first filter end, in coordinates), row_begin and row_ends (from where rows
            hold coordinates for the second filter, and where its stages end). After `optimize` also what it
            measured on its sample: survivors (shares of vectors that are left after each of these ends), gf_eq
            (2 x dim x pairs / time of searching the sample's queries, in 1e9 a second) and seconds (of
            `optimize`).

            On a GPU also on_gpu, packed_on_gpu and on_host (how many vectors lie there whole, lie there
            packed, are copied for each search) and gpu_bytes.
        """
        device, index, stored = self.device, self._on_cpu.index, self._stored
        if self._on_gpu:
            found = self._on_gpu.explain()
        elif index is None:
            found = {}
        else:
            packed = {"bytes_per_vector": stored.array[0].nbytes + index.nbytes / len(index)}
            found = index.explain() | packed
        return {"device": device} | found if found else {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the memory to one safetensors file, with the plan that `optimize` chose.

        The file is written beside `path`, synced to disk and renamed, so that `path` holds either what it
        held before or the whole memory.

        Raises:
            OSError: the file cannot be written.
        """
        self._save(path, memory_file.VECTORS, lambda _: ({}, {}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VectorMemory:
        """Reads a memory that `save` wrote. Nothing is unpickled.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is truncated, foreign, of another version, or its parts disagree.
        """
        return cls._of(memory_file.load(path, memory_file.VECTORS), path)

    # ---- for PixelMemory, too ----

    def _newest(self) -> Any:
        return self._stored

    def _extended(self, given: Any, name: str) -> Stored:
        """What is stored, and `given` (n, dim) or (n, m, dim) behind it, unpublished; under `_adding`."""
        hidden, begin = self._stored.hidden, len(self)
        end = begin + math.prod(given.shape[:-1])
        zero = store_rows(given, name, self.normalize, self._vectors.room(begin, end))
        if self.normalize and zero.any():
            hidden = self._hidden.appended(len(hidden), begin + np.flatnonzero(zero))
        return Stored(self._vectors.first(end), hidden)

    def _begin_with(self, stored: Stored, index: Index | None) -> None:
        """Takes over vectors where they lie, which may be read-only, and their packed form."""
        self._vectors, self._hidden = GrowingArray.of(stored.array), GrowingArray.of(stored.hidden)
        self._stored = stored
        self._on_cpu = HostSearch(self.normalize, index)

    def _save(
        self,
        path: str | os.PathLike[str],
        kind: memory_file.Format,
        described: Callable[[Any], tuple[dict[str, NDArray[np.int64]], dict[str, int]]],
    ) -> None:
        """Writes what `described` tells of the vectors, columns and numbers, with them."""
        index = self._on_cpu.index
        stored = self._stored  # after the index, which so holds nothing that came later
        columns, numbers = described(stored)
        numbers |= {
            "dim": self.dim,
            "normalize": int(self.normalize),
            "bfloat16": int(self.dtype == "bfloat16"),
        }
        plan, plan_numbers = to_arrays(index) if index and index.measured else ({}, "")
        contents = memory_file.Contents(stored.array, stored.hidden, columns, numbers, plan, plan_numbers)
        memory_file.save(path, kind, contents)

    @classmethod
    def _of(cls, contents: memory_file.Contents, path: str | os.PathLike[str]) -> VectorMemory:
        numbers = contents.numbers
        memory = cls(
            numbers["dim"], bool(numbers["normalize"]), "bfloat16" if numbers["bfloat16"] else "float32"
        )
        stored = Stored(contents.vectors, contents.zero) if memory.normalize else Stored(contents.vectors)
        index = None
        if contents.plan or contents.plan_numbers:
            index = to_index(stored, contents.plan, contents.plan_numbers, path)
        memory._begin_with(stored, index)
        return memory
