"""A memory of labelled pixel vectors: exact search and classification by density."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._arrays import floating, integers, is_tensor, positive_integer, vector_rows
from pyhue._cuda.search import DeviceSearch, device_search
from pyhue._saved import memory as memory_file
from pyhue._saved.plan import to_arrays, to_index
from pyhue._search.growing import GrowingArray
from pyhue._search.host import HostSearch
from pyhue._search.stored import Stored
from pyhue.pixel_vectors import image_vectors

_MAX_DIM = 4096
_MAX_LABEL = memory_file.MAX_LABEL


class SearchResult(NamedTuple):
    """What `PixelMemory.search` returns; both have the queries' leading shape and k last."""

    distances: Any  #: float32, squared Euclidean, ascending; +inf where there is no neighbour
    indices: Any  #: int64, row of the memory; -1 where there is no neighbour


class PixelMemory:
    """Labelled pixel vectors, searched exactly.

    Every image is a set of vectors, one for each pixel of a CNN layer's activation. `search` finds the
    nearest stored vectors; `log_likelihood` and `predict` let the neighbours of an image's vectors vote.

    Distances are squared Euclidean, computed in float32 over the stored vectors in a fixed order, ties to
    the lower index: results are exact and do not depend on batch size, threads, k or the CPU.

    Args:
        dim: channels of a vector, 1 to 4096.
        normalize: scale stored and query vectors to unit length, in float64. All-zero vectors, which real
            activations contain, stay zero. Default True.
        dtype: how vectors are stored, "float32" or "bfloat16", which takes half the memory; distances are
            exact with respect to the stored values. Default "float32".

    Inputs are NumPy arrays or torch CPU tensors of float16, bfloat16 (torch), float32 or float64, with any
    strides, after `to("cuda")` also CUDA tensors; results are of the same kind. Wrong input raises TypeError
    or ValueError naming the argument, and leaves the memory as it was. Several threads may search at once;
    adding needs the memory to itself.

    Example:
        >>> activations = np.random.default_rng(0).random((6, 49, 32))    # images, pixels, channels
        >>> memory = PixelMemory(dim=32)
        >>> memory.add(activations, labels=[0, 0, 0, 1, 1, 1])
        >>> memory.predict(activations)
        array([0, 0, 0, 1, 1, 1])
    """

    def __init__(self, dim: int, normalize: bool = True, dtype: Literal["float32", "bfloat16"] = "float32"):
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype: expected 'float32' or 'bfloat16', got {dtype!r}")
        self.dim = positive_integer(dim, "dim", _MAX_DIM)
        self.normalize = bool(normalize)
        self.dtype = dtype
        self._vectors = GrowingArray((self.dim,), np.float32 if dtype == "float32" else np.uint16)
        self._labels = GrowingArray((), np.int64)
        self._images = GrowingArray((), np.int64)
        self._pixels = GrowingArray((), np.int64)
        self._class_counts = np.zeros(0, np.int64)
        self._num_images = 0
        self._on_cpu = HostSearch()
        self._on_gpu: DeviceSearch | None = None

    def __len__(self) -> int:
        """How many vectors are stored."""
        return len(self._vectors)

    def __repr__(self) -> str:
        return (
            f"PixelMemory(dim={self.dim}, normalize={self.normalize}, dtype={self.dtype!r}): "
            f"{len(self)} vectors of {self._num_images} images, {self.num_classes} classes"
        )

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The stored vectors, float32 (len, dim), read-only; a copy when they are stored as bfloat16."""
        return _read_only(self._stored.rows(slice(None)))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each stored vector, (len,), read-only."""
        return _read_only(self._labels.values)

    @property
    def images(self) -> NDArray[np.int64]:
        """Image of each stored vector, counted from 0 in the order of adding, (len,), read-only."""
        return _read_only(self._images.values)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixel index of each stored vector within its image, (len,), read-only."""
        return _read_only(self._pixels.values)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """How many vectors of each class are stored, (num_classes,), read-only."""
        return _read_only(self._class_counts)

    @property
    def num_classes(self) -> int:
        """The largest label of a stored vector plus one."""
        return len(self._class_counts)

    def add(self, activations: Any, labels: Any) -> None:
        """Stores the pixel vectors of labelled images.

        Args:
            activations: (images, pixels, dim), or feature maps (images, dim, H, W).
            labels: non-negative integers (images,), the class of each image.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: a shape is wrong, a value is NaN or infinite (the message names the row, counting
                pixel vectors), a label is negative, or there are more or fewer labels than images.
        """
        if self._on_gpu:
            both = (activations, labels)
            activations, labels = (value.cpu() if is_tensor(value) else value for value in both)
        vectors = floating(image_vectors(floating(activations, "activations"), self.dim), "activations")
        images, pixels = vectors.shape[:2]
        classes = integers(labels, "labels")
        if classes.shape != (images,):
            raise ValueError(f"labels: expected shape ({images},), one for each image, got {classes.shape}")
        if images and not 0 <= classes.min() <= classes.max() <= _MAX_LABEL:
            bad = classes.min() if classes.min() < 0 else classes.max()
            raise ValueError(f"labels: expected integers from 0 to {_MAX_LABEL}, got {bad}")
        rows: NDArray[Any] = vector_rows(
            vectors.reshape(images * pixels, self.dim), "activations", self.normalize
        )
        if self.dtype == "bfloat16":
            rows = _core.store_bfloat16(rows)
            if not self.normalize and (bad := np.flatnonzero((rows & 0x7F80 == 0x7F80).any(axis=1))).size:
                raise ValueError(
                    f"activations: expected values that bfloat16 holds, got a larger one in row {bad[0]}"
                )
        largest = int(classes.max(initial=-1)) if pixels else -1
        counts = np.zeros(max(self.num_classes, largest + 1), np.int64)
        counts[: self.num_classes] = self._class_counts
        if pixels:
            np.add.at(counts, classes, pixels)
        columns = (self._vectors, self._labels, self._images, self._pixels)
        for column in columns:  # what may run out of memory does so before anything changes
            column.reserve(len(self) + len(rows))
        numbers = np.arange(self._num_images, self._num_images + images)
        values: tuple[NDArray[Any], ...] = (
            rows,
            np.repeat(classes, pixels),
            np.repeat(numbers, pixels),
            np.tile(np.arange(pixels), images),
        )
        for column, added in zip(columns, values, strict=True):
            column.append(added)
        self._class_counts = counts
        self._num_images += images

    @property
    def device(self) -> str:
        """Where searches run: "cpu", or a GPU as torch names it."""
        return str(self._on_gpu.device) if self._on_gpu else "cpu"

    def to(self, device: Any, max_bytes: int | None = None) -> PixelMemory:
        """Moves searching to a GPU, or back to the CPU; returns the memory itself.

        The vectors stay on the CPU too; the first search after something was added copies that. Distances
        and indices are the same bits as on the CPU; log-likelihoods agree to about 1e-13. Where queries are
        CUDA tensors, results are too, on the memory's GPU, computed on its current stream, and nothing waits
        for it: values are not checked, and a query that holds NaN or Inf gives distances and log-likelihoods
        of NaN, and indices -1. There `k` is at most 1024.

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
        self._on_gpu = device_search(device, max_bytes)
        return self

    def search(self, vectors: Any, k: int = 10) -> SearchResult:
        """The k stored vectors nearest to each query vector.

        Args:
            vectors: queries (..., dim).
            k: neighbours of each, at least 1. Where the memory holds fewer, the rest has index -1 and
                distance +inf. Default 10.

        Returns:
            `SearchResult`: distances float32 (..., k), squared Euclidean, ascending, and indices int64
            (..., k), rows of the memory; ties go to the lower index.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: the memory is empty, the last dimension is not `dim`, or a value is not finite.
        """
        return SearchResult(*self._searching.search(self, vectors, k))

    def log_likelihood(self, activations: Any, k: int = 10, eps: float = 1e-8) -> Any:
        """Log-likelihood of each image under each class, by `pyhue.density` over k neighbours a pixel.

        Args:
            activations: (images, pixels, dim), or feature maps (images, dim, H, W).
            k: neighbours of each pixel vector, at least 1. Default 10.
            eps: added to the squared bandwidth, positive. Default 1e-8.

        Returns:
            float64 (images, num_classes), -inf for a class without a neighbour.

        Raises:
            TypeError, ValueError: as `search`.
        """
        return self._searching.log_likelihood(self, activations, k, eps)

    def predict(self, activations: Any, k: int = 10, eps: float = 1e-8) -> Any:
        """The most likely class of each image, int64 (images,); arguments as for `log_likelihood`."""
        return self.log_likelihood(activations, k, eps).argmax(1)

    def optimize(self) -> None:
        """Packs the memory in the form that makes search fastest for vectors like these.

        Some stored vectors play the queries and the candidates are measured on a sample: which coordinates
        to keep, how many of them each filter reads. Results are the same before and after. The first search
        of a memory of at least 20,000 vectors does this by itself; vectors added later are searched exactly
        too, so call it again when many have come. Takes seconds.

        Raises:
            ValueError: the memory is empty.
        """
        self._on_cpu.optimize(self)

    def explain(self) -> dict[str, Any]:
        """How the memory is packed, and what the last `optimize` measured on its sample.

        Returns:
            plan ("plain": every channel is read; "sparse": each tile of queries reads the channels where its
            norm lies; "principal": leading principal directions), block_dims and row_dims (coordinates that
            the first and second filter keep), omit (share of a query's norm that a sparse tile may leave
            out), bytes_per_vector (stored and packed) and vectors (packed). After `optimize` also dims (that
            the first filter read of each vector), after_blocks and after_rows (shares of vectors that
            survived the first and both filters), gf_eq (2 x dim x pairs / time of searching the sample's
            queries, in 1e9 a second) and seconds (of `optimize`). Empty before the first search.
        """
        index = self._on_cpu.index
        if index is None:
            return {}
        stored_bytes = self._vectors.values.nbytes / len(self)
        return index.explain() | {"bytes_per_vector": stored_bytes + index.nbytes / len(index)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the memory to one safetensors file, with the plan that `optimize` chose.

        The file is written beside `path`, synced to disk and renamed, so that `path` holds either what it
        held before or the whole memory.

        Raises:
            OSError: the file cannot be written.
        """
        metadata = {
            "dim": self.dim,
            "normalize": int(self.normalize),
            "num_images": self._num_images,
            "bfloat16": int(self.dtype == "bfloat16"),
        }
        arrays = (self._vectors.values, self.labels, self.images, self.pixels)
        index = self._on_cpu.index
        plan, numbers = to_arrays(index) if index and index.measured else ({}, "")
        memory_file.save(path, memory_file.Contents(*arrays, metadata, plan, numbers))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PixelMemory:
        """Reads a memory that `save` wrote. Nothing is unpickled.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is truncated, foreign, of another version, or its parts disagree.
        """
        contents = memory_file.load(path)
        numbers = contents.metadata
        memory = cls(
            numbers["dim"], bool(numbers["normalize"]), "bfloat16" if numbers["bfloat16"] else "float32"
        )
        memory._vectors.append(contents.vectors)
        memory._labels.append(contents.labels)
        memory._images.append(contents.images)
        memory._pixels.append(contents.pixels)
        memory._class_counts = np.bincount(contents.labels).astype(np.int64, copy=False)
        memory._num_images = numbers["num_images"]
        if contents.plan or contents.plan_numbers:
            index = to_index(memory._stored, contents.plan, contents.plan_numbers, path)
            memory._on_cpu = HostSearch(index)
        return memory

    @property
    def _searching(self) -> HostSearch | DeviceSearch:
        return self._on_gpu or self._on_cpu

    @property
    def _stored(self) -> Stored:
        return Stored(self._vectors.values)

    def _require_vectors(self) -> None:
        if not len(self):
            raise ValueError("memory: expected at least one stored vector, got an empty memory")


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
