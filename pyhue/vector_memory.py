"""A memory of vectors: exact nearest-neighbour search."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import asked_recall, boolean, is_tensor, like, positive_integer
from pyhue._cuda.search import DeviceSearch, device_search
from pyhue._locks import Lock
from pyhue._on_disk import OnDisk, is_file_name, open_folder
from pyhue._rows import sliceable, store_rows
from pyhue._saved import memory as memory_file
from pyhue._saved.folder import Folder
from pyhue._saved.plan import to_arrays, to_index
from pyhue._search.certificate import Certificate
from pyhue._search.growing import GrowingArray
from pyhue._search.host import HostSearch
from pyhue._search.index import Index
from pyhue._search.selection import Selection, largest_radius, numbers_below, selection
from pyhue._search.stored import Stored

MAX_DIM = 4096


class SearchResult(NamedTuple):
    """What `search` returns; both have the queries' leading shape and k last."""

    distances: Any  #: float32, squared Euclidean, ascending; +inf where there is no neighbour
    indices: Any  #: int64, row of the memory; -1 where there is no neighbour


class WithinResult(NamedTuple):
    """What `within` returns, as FAISS's range_search: query i found places limits[i] to limits[i + 1] - 1."""

    limits: Any  #: int64 (n + 1,)
    distances: Any  #: float32, squared Euclidean, ascending within a query
    indices: Any  #: int64, row of the memory; ascending where distances are equal


class VectorMemory(OnDisk):
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

    Any number of threads may search while others add or remove: a search sees the memory as it was at one
    moment between its begin and its end. A pickle, or a copy for another process, takes the vectors and the
    packed form; both may be read-only there, as joblib's memory maps are.

    Example:
        >>> vectors = np.random.default_rng(0).random((1000, 32), dtype=np.float32)
        >>> memory = VectorMemory(dim=32)
        >>> memory.add(vectors)[-3:]
        array([997, 998, 999])
        >>> distances, indices = memory.search(vectors[:2], k=5)
        >>> indices[:, 0]
        array([0, 1])
    """

    _FORMAT = memory_file.VECTORS

    def __init__(self, dim: int, normalize: bool = True, dtype: Literal["float32", "bfloat16"] = "float32"):
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype: expected 'float32' or 'bfloat16', got {dtype!r}")
        self.dim = positive_integer(dim, "dim", MAX_DIM)
        self.normalize = boolean(normalize, "normalize")
        self.dtype = dtype
        self._vectors = GrowingArray((self.dim,), np.float32 if dtype == "float32" else np.uint16)
        self._hidden = GrowingArray((), np.int64)
        none = np.asarray(self._hidden.first(0))
        self._stored = Stored(self._vectors.first(0), none)  # replaced as a whole
        self._adding = Lock()
        self._on_cpu = HostSearch(self.normalize)
        self._on_gpu: DeviceSearch | None = None
        self._folder: Folder | None = None
        self._closed = False

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
        self._require_whole()
        settings = {name: getattr(self, name) for name in ("dim", "normalize", "dtype")}
        index = self._on_cpu.index  # before the vectors: holds nothing that came later
        return settings | {"stored": self._stored, "index": index, "on_gpu": self._on_gpu}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dim"], state["normalize"], state["dtype"])  # type: ignore[misc]
        self._begin_with(state["stored"], state["index"])
        self._on_gpu = copy.copy(state["on_gpu"])  # which follows this memory

    def __del__(self) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None and folder.writable and folder.lacks(self._stored):
            warnings.warn(
                f"{folder.path}: a memory was neither flushed nor closed; what was added or removed is lost",
                RuntimeWarning,
                stacklevel=2,
            )

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The stored vectors, float32 (len, dim), read-only; a copy when they are stored as bfloat16."""
        vectors: NDArray[np.float32] = self._newest().rows(slice(None))
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
        self._require_changeable()
        given = sliceable(vectors, "vectors", resident=self._on_gpu is not None)
        if given.ndim != 2 or given.shape[1] != self.dim:
            raise ValueError(f"vectors: expected shape (n, {self.dim}), got {tuple(given.shape)}")
        self._flush_when_much(len(given))
        with self._adding.held():
            begin = len(self)
            self._stored = self._extended(given, "vectors")
        self._flush_when_much(1)
        rows = like(np.arange(begin, begin + len(given)), vectors)
        return rows.to(vectors.device) if is_tensor(vectors) else rows

    def remove(self, rows: Any) -> int:
        """Leaves vectors out of every search that begins from now on.

        Rows keep their numbers, and the vectors their memory, until `compact`. Costs what is removed, and a
        copy of one bit for each row. Of an opened folder, `flush` and `close` write it.

        Args:
            rows: integers, rows of the memory, in any order; those removed already may be among them.

        Returns:
            How many vectors were removed now.

        Raises:
            TypeError: `rows` are no integers.
            ValueError: a row is not there; nothing was removed then.
            io.UnsupportedOperation: the memory was opened for reading.
        """
        self._require_changeable()
        with self._adding.held():
            self._stored, gone = self._stored.without(numbers_below(rows, "rows", len(self)))
        return len(gone)

    @property
    def removed(self) -> NDArray[np.bool_]:
        """Which rows were removed, (len,); a copy."""
        is_removed: NDArray[np.bool_] = self._newest().is_removed()
        return is_removed

    def compact(self, progress: Callable[[int], object] | None = None) -> NDArray[np.int64]:
        """Drops what was removed and numbers the other rows anew, in their order.

        Searches under way end with the old numbers. The next one packs the memory again. Of an opened folder
        this is a `flush`, which also merges small segments; only what changes is packed again.

        Args:
            progress: of an opened folder, called with how many vectors were gone through, a segment at a
                time. Default: nothing is.

        Returns:
            int64 (len,), the new row of each old one; -1 for those that were removed.

        Raises:
            io.UnsupportedOperation, OSError: as `flush`, of a memory that was opened from a folder.
        """
        if self._folder is not None:
            return self._compact_folder(progress)
        with self._adding.held():
            return self._compacted()

    @property
    def device(self) -> str:
        """Where searches run, as torch names it; "cpu" unless `to` moved them."""
        return str(self._on_gpu.device) if self._on_gpu else "cpu"

    def to(self, device: Any, max_bytes: int | None = None) -> VectorMemory:
        """Moves searching to a GPU, or back to the CPU; returns the memory itself.

        The vectors stay on the CPU too; the first search after something was added copies that. Distances
        and indices are the same bits as on the CPU. Where queries are CUDA tensors, results are too, on the
        memory's GPU, computed on its current stream, and nothing waits for it: values are not checked, and a
        query that holds NaN or Inf gives distances of NaN and indices -1. There `k` is at most 1024. `where`
        and `exclude` come from the CPU; a search with them costs what one without them does.

        A memory may be larger than the GPU. First the vectors stay in page-locked memory of the host, a copy
        from which the GPU reads those of candidates; then the part of the packed form that finds no room
        does so too, and every search copies it, one piece while another is searched.

        A CUDA graph can hold a search, but not the copying of what was added or removed: search once before
        capturing. Capture again after adding or removing: the next search may free what the graph reads, as
        do `to` and the memory's end. A graph can hold neither `where` and `exclude` nor `within`. A pickled
        memory is unpickled to the same device.

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

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        where: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> SearchResult:
        """The k stored vectors nearest to each query.

        With `where` or `exclude` the answer is, bit for bit, that of a memory of the vectors that are left,
        with the row numbers of this one.

        Args:
            queries: (..., dim).
            k: neighbours of each, at least 1. Where fewer can be found, the rest has index -1 and distance
                +inf; at most 65,536, or as many as are stored. Default 10.
            where: booleans (n,), which rows may be found; those from n on are not. On the CPU a search costs
                what is left, and a look at the mask. Default None: all.
            exclude: integers, a row that each query does not find, -1 for none, of the queries' shape (...)
                or the begin of that. Default None.
            recall: a share of the k nearest that is enough in the mean, above 0 and at most 1, for a k of at
                most 100. Then only clusters near to a query are looked at, as many as stored vectors took
                that played the queries when `optimize` measured. Distances of what is found are exact;
                neither batch nor threads nor CPU change it. Default None, and 1: all of them.

        Returns:
            `SearchResult`: distances float32 (..., k), squared Euclidean, ascending, and indices int64
            (..., k), rows of the memory; ties go to the lower row.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: the memory is empty, the last dimension is not `dim`, a value is not finite, `k` is
                out of range, or `where` or `exclude` does not fit; or a `recall` was asked for which would
                not pay: the message says why.
            RuntimeError: a `recall` was asked for, and the memory is searched on a GPU.
        """
        return self._search(queries, k, selection(where, exclude, len(self)), recall)

    def within(self, queries: Any, radius: float, *, where: Any = None, exclude: Any = None) -> WithinResult:
        """All stored vectors at a squared distance of at most `radius` from each query.

        Args:
            queries: (n, dim).
            radius: the largest squared Euclidean distance, itself included, at least 0. The float32 distance
                that `search` gives is compared with it.
            where, exclude: as for `search`.

        Returns:
            `WithinResult`; each result takes 12 bytes: ask for fewer queries at a time where many are near.
            On a GPU this waits for their number, and a query of a CUDA tensor that is not finite finds none.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: as `search`, or `radius` is negative or NaN.
            RuntimeError: on a GPU, a CUDA graph is captured, which cannot hold results of unknown size.
        """
        return self._within(queries, radius, selection(where, exclude, len(self)))

    def certify(self, queries: Any, k: int = 10, *, sample: int = 1000) -> Certificate:
        """The proof that a search dropped nothing that is among the k nearest, in numbers.

        Every vector that the filters drop, knowing the k-th distance, has a lower bound of its distance above
        that; bounds of a sample of the vectors, whatever was compared and not found, and the distances that
        were found are checked against distances in float64. This reads every stage of every vector and writes
        the bound of each: about a hundred times what a search takes.

        Args:
            queries: (..., dim).
            k: as for `search`. Default 10.
            sample: vectors of each packed piece, drawn at random, whose bounds are checked. Default 1000.

        Returns:
            `Certificate` of the queries in their order: valid, distances (of the k-th), lower_bounds (the
            smallest of what was dropped), dropped, compared and margins, each (queries,).

        Raises:
            TypeError, ValueError: as `search`, or `sample` is not a positive integer.
            RuntimeError: the memory is searched on a GPU.

        Example:
            >>> vectors = np.random.default_rng(0).random((1000, 32), dtype=np.float32)
            >>> memory = VectorMemory(dim=32)
            >>> rows = memory.add(vectors)
            >>> proof = memory.certify(vectors[:2] + 0.01, k=5)
            >>> bool(proof.valid.all() and (proof.lower_bounds > proof.distances).all())
            True
        """
        if self._on_gpu:
            raise RuntimeError(
                f"memory: certify reads the CPU's packed form, and this memory is searched on {self.device}"
            )
        return self._on_cpu.certify(self._newest, queries, k, positive_integer(sample, "sample", 2**31))

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
        if self._folder is not None and self._folder.writable:
            self._flush(replan=True)
        else:
            self._on_cpu.optimize(self._newest)

    def explain(self) -> dict[str, Any]:
        """How what searches the memory has packed it.

        Empty before the first search, unless the memory was opened from a folder that has a plan: then it is
        made ready here, as by the first search.

        Returns:
            device, vectors (packed; those added since are searched too) and bytes_per_vector (stored and
            packed).

            On the CPU also plan ("plain": the channels themselves; "principal": principal directions),
            block_ends (where the stages of the first filter end, in coordinates), row_begin and row_ends
            (from where rows hold coordinates for the second filter, and where its stages end). After
            `optimize` also what it measured on its sample: survivors (shares of vectors that are left after
            each of these ends), gf_eq (2 x dim x pairs / time of searching the sample's queries, in 1e9 a
            second) and seconds (of `optimize`); where the memory has clusters also recalls (0.9, 0.95 and
            0.99), and of each, for k = 10: recall_found (what half of the sample reached by the other half's
            measure), recall_read (share of all pairs of a query and a vector that filters met) and
            recall_seconds (of a query, all of the sample at once; exact_seconds is that of the exact search).
            After a search last_search: its queries, dims_read (share of all coordinates that the first filter
            read), survivors (share of all pairs of a query and a vector that it left) and compared (share
            whose distance was computed). All pairs are those that the search met: where `where` leaves few
            rows, of these alone; with a recall, of the clusters that were looked at; and once more where
            vectors of the nearest clusters were compared first. What is compared without a filter counts as
            read and left.

            On a GPU also on_gpu, packed_on_gpu and on_host (how many vectors lie there whole, lie there
            packed, are copied for each search) and gpu_bytes.
        """
        self._newest()  # it is open
        if self._folder is not None and self._folder.manifest.plan is not None and not self._on_gpu:
            self._on_cpu.ready(self._newest)
        found = self._on_gpu.explain() if self._on_gpu else self._on_cpu.explain(self._stored)
        return {"device": self.device} | found if found else {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the memory to a folder that `open` maps, or to one safetensors file.

        A folder has the vectors, the plan that `optimize` chose (at 20,000 vectors or more there is always
        one) and the packed form; see docs/large_memories.md. A path that ends in ".safetensors" becomes one
        file, without the packed form. Either way `path` holds what it held before, or the whole memory.

        Raises:
            BlockingIOError: somebody writes to the folder.
            OSError: the file or folder cannot be written, or the folder has something else in it.
            ValueError: the memory was opened with `on_error="skip"`, and something of it was left out.
        """
        if is_file_name(path):
            self._save(path, memory_file.VECTORS, lambda _: ({}, {}))
        else:
            self._save_folder(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VectorMemory:
        """Reads a memory that `save` wrote; what is added to it stays in memory. Nothing is unpickled.

        Raises:
            OSError: it cannot be read.
            ValueError: it is truncated, foreign, of another version, or its parts disagree.
        """
        if os.path.isdir(path):
            return cls.open(path)._read()
        return cls._of(memory_file.load(path, memory_file.VECTORS), path)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Literal["r", "a"] = "r",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> VectorMemory:
        """Maps the folder of a memory: nothing is read before it is needed, and processes share it.

        Args:
            path: the folder.
            mode: "r" to search what is there at this moment, until `refresh`; "a" also to change it: what is
                added is searched at once and written at `flush`, at `close`, and before
                it becomes more than 1 GiB. One process may write at a time, any number read.
            on_error: what a segment that cannot be read does: "raise", or "skip" with a warning: its vectors
                then keep their rows and are nobody's neighbours. Only with mode "r".

        Returns:
            The memory, which is a context manager that closes it, also where the block ends by an error.

        Raises:
            BlockingIOError: mode is "a", and somebody else writes.
            OSError: the folder is not there or cannot be read.
            ValueError: an argument is wrong; or a file is damaged, which is named.
        """
        return cls._of_folder(open_folder(path, cls._FORMAT, mode, on_error))

    # ---- for PixelMemory, too ----

    def _search(self, queries: Any, k: int, chosen: Selection, recall: float | None = None) -> SearchResult:
        enough = self._enough(recall)
        if self._on_gpu:
            return SearchResult(*self._on_gpu.search(self._newest, queries, k, chosen))
        return SearchResult(*self._on_cpu.search(self._newest, queries, k, chosen, enough))

    def _enough(self, recall: float | None) -> float | None:
        """The recall that is enough; None: all neighbours."""
        enough = asked_recall(recall)
        if enough is not None and self._on_gpu:
            raise RuntimeError(
                f"memory: recall searches on the CPU, and this memory is searched on {self.device}"
            )
        return enough

    def _within(self, queries: Any, radius: float, chosen: Selection) -> WithinResult:
        search = self._on_gpu or self._on_cpu
        return WithinResult(*search.within(self._newest, queries, largest_radius(radius), chosen))

    def _newest(self) -> Any:
        if self._closed:
            raise ValueError("memory: closed")
        return self._stored

    def _inner(self) -> VectorMemory:
        return self

    def _take_over(self, stored: Stored) -> None:
        before = self._stored
        others = stored.epoch != before.epoch or not np.array_equal(
            stored.hidden[: len(before.hidden)], before.hidden
        )  # renumbered; or some are there again that could not be read
        self._vectors, self._hidden = GrowingArray.of(stored.array), GrowingArray.of(stored.hidden)
        self._stored = stored
        if others:
            self._on_gpu = copy.copy(self._on_gpu)  # which copies all anew

    @classmethod
    def _of_folder(cls, folder: Folder) -> VectorMemory:
        manifest = folder.manifest
        memory = cls(manifest.dim, manifest.normalize, manifest.dtype)  # type: ignore[arg-type]
        try:
            memory._take_over(folder.stored())
        except BaseException:
            folder.close()
            raise
        memory._folder = folder
        memory._on_cpu = HostSearch(memory.normalize, None, folder.index)
        return memory

    def _read(self) -> VectorMemory:
        """A memory of its own, with the vectors read."""
        memory = VectorMemory(self.dim, self.normalize, self.dtype)
        stored = self._stored
        whole = Stored(np.array(stored.array), stored.hidden, stored.removed, stored.epoch)
        index = self._packed_index()
        if index is not None:
            index = index.with_pieces(piece.copied() for piece in index.pieces)
        memory._begin_with(whole, index)
        return memory

    def _packed_index(self) -> Index | None:
        """The packed form that is on disk."""
        folder = self._folder
        if folder is None or folder.manifest.plan is None:
            return None
        return folder.index(self._stored)

    def _extended(self, given: Any, name: str) -> Stored:
        """What is stored, and `given` (n, dim) or (n, m, dim) behind it, unpublished; under `_adding`."""
        before = self._stored
        hidden, begin = before.hidden, len(before)
        end = begin + math.prod(given.shape[:-1])
        zero = store_rows(given, name, self.normalize, self._vectors.room(begin, end))
        if self.normalize and zero.any():
            hidden = np.asarray(self._hidden.appended(len(hidden), begin + np.flatnonzero(zero)))
        return Stored(self._vectors.first(end), hidden, before.removed, before.epoch)

    def _compacted(self) -> NDArray[np.int64]:
        """`compact`, of a memory that belongs to no folder; under `_adding`."""
        kept = np.flatnonzero(~self._stored.is_removed())
        numbers = np.full(len(self), -1)
        numbers[kept] = np.arange(len(kept))
        if len(kept) < len(self):
            compacted = self._stored.compacted(kept)
            self._vectors = GrowingArray.of(compacted.array)
            self._hidden = GrowingArray.of(compacted.hidden)
            self._stored = compacted
        return numbers

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
        self._require_whole()
        index = self._on_cpu.index
        stored = self._newest()  # after the index, which so holds nothing that came later
        columns, numbers = described(stored)
        numbers |= {
            "dim": self.dim,
            "normalize": int(self.normalize),
            "bfloat16": int(self.dtype == "bfloat16"),
        }
        plan, plan_numbers = to_arrays(index) if index and index.measured else ({}, "")
        contents = memory_file.Contents(
            np.asarray(stored.array), stored.hidden, columns, numbers, plan, plan_numbers, stored.removed
        )
        memory_file.save(path, kind, contents)

    @classmethod
    def _of(cls, contents: memory_file.Contents, path: str | os.PathLike[str]) -> VectorMemory:
        numbers = contents.numbers
        memory = cls(
            numbers["dim"], bool(numbers["normalize"]), "bfloat16" if numbers["bfloat16"] else "float32"
        )
        hidden = contents.zero if memory.normalize else contents.zero[:0]
        stored = Stored(contents.vectors, hidden, contents.removed)
        index = None
        if contents.plan or contents.plan_numbers:
            index = to_index(stored, contents.plan, contents.plan_numbers, path)
        memory._begin_with(stored, index)
        return memory
