"""A memory of labelled pixel vectors: exact search and classification by density."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import floating, integers, is_tensor, like, positive_number
from pyhue._cuda.density import DeviceDensity
from pyhue._on_disk import OnDisk, is_file_name, open_folder
from pyhue._rows import sliceable
from pyhue._saved import memory as memory_file
from pyhue._search.certificate import Certificate
from pyhue._search.chunked import rows_with
from pyhue._search.growing import GrowingArray
from pyhue._search.labelled import Labelled, labelled, read_only
from pyhue._search.selection import Selection, numbers_below, selection
from pyhue.density import densities
from pyhue.pixel_vectors import image_vectors
from pyhue.vector_memory import SearchResult, VectorMemory, WithinResult

_COLUMNS = ("labels", "images", "pixels")


class PixelMemory(OnDisk):
    """Labelled pixel vectors, searched exactly.

    Every image is a set of vectors, one for each pixel of a CNN layer's activation. `search` finds the
    nearest stored vectors; `log_likelihood` and `predict` let the neighbours of an image's vectors vote.

    Distances are squared Euclidean, computed in float32 over the stored vectors in a fixed order, ties to
    the lower index: results are exact and do not depend on batch size, threads, k or the CPU.

    Args:
        dim: channels of a vector, 1 to 4096.
        normalize: scale stored and query vectors to unit length, in float64. All-zero vectors, which real
            activations contain, have no direction: they keep their rows, are nobody's neighbours, do not
            count in `class_counts` and cast no votes. Default True; False compares vectors as they are.
        dtype: how vectors are stored, "float32" or "bfloat16", which takes half the memory; distances are
            exact with respect to the stored values. Default "float32".

    Inputs are NumPy arrays or torch CPU tensors of float16, bfloat16 (torch), float32 or float64, with any
    strides, after `to("cuda")` also CUDA tensors; results are of the same kind. Wrong input raises TypeError
    or ValueError naming the argument, and leaves the memory as it was. Any number of threads may search while
    others add: `VectorMemory` says what they see, and what copies and pickles hold.

    Example:
        >>> activations = np.random.default_rng(0).random((6, 49, 32))    # images, pixels, channels
        >>> memory = PixelMemory(dim=32)
        >>> memory.add(activations, labels=[0, 0, 0, 1, 1, 1])
        >>> memory.predict(activations)
        array([0, 0, 0, 1, 1, 1])
    """

    _FORMAT = memory_file.PIXELS

    def __init__(self, dim: int, normalize: bool = True, dtype: Literal["float32", "bfloat16"] = "float32"):
        memory = VectorMemory(dim, normalize, dtype)
        columns = [np.empty(0, np.int64) for _ in _COLUMNS]
        self._begin_with(memory, labelled(memory._newest(), columns, 0))

    def __len__(self) -> int:
        """How many vectors are stored."""
        return len(self._memory)

    def __repr__(self) -> str:
        stored: Any = self._memory._stored
        return (
            f"PixelMemory(dim={self.dim}, normalize={self.normalize}, dtype={self.dtype!r}): "
            f"{len(stored)} vectors of {stored.num_images} images, {len(stored.classes)} classes"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        memory = copy.copy(state["memory"])  # which grows by itself
        self._begin_with(memory, memory._newest())

    @property
    def dim(self) -> int:
        """Channels of a vector."""
        return self._memory.dim

    @property
    def normalize(self) -> bool:
        """Whether vectors are scaled to unit length."""
        return self._memory.normalize

    @property
    def dtype(self) -> str:
        """How vectors are stored."""
        return self._memory.dtype

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The stored vectors, float32 (len, dim), read-only; a copy when they are stored as bfloat16."""
        return self._memory.vectors

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each stored vector, (len,), read-only."""
        return read_only(self._newest().labels)

    @property
    def images(self) -> NDArray[np.int64]:
        """Image of each stored vector, counted from 0 in the order of adding, (len,), read-only."""
        return read_only(self._newest().images)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixel index of each stored vector within its image, (len,), read-only."""
        return read_only(self._newest().pixels)

    @property
    def classes(self) -> NDArray[np.int64]:
        """The labels of stored vectors, ascending, (num_classes,), read-only.

        Column c of `log_likelihood` and `class_counts` is class `classes[c]`: c itself where the labels are
        0 to num_classes - 1. A new label between others moves those behind it.
        """
        return read_only(self._newest().classes)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """How many vectors of each class can be found, (num_classes,), read-only."""
        return read_only(self._newest().class_counts)

    @property
    def num_classes(self) -> int:
        """How many labels stored vectors have."""
        return len(self._newest().classes)

    def add(self, activations: Any, labels: Any) -> None:
        """Stores the pixel vectors of labelled images.

        Args:
            activations: (images, pixels, dim), or feature maps (images, dim, H, W).
            labels: integers (images,), the class of each image; any that int64 holds.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: a shape is wrong, a value is NaN, infinite or beyond what is stored (the message names
                the row, counting pixel vectors), or there are more or fewer labels than images.
        """
        self._require_changeable()
        on_gpu = self._memory._on_gpu is not None
        given = sliceable(activations, "activations", resident=on_gpu)
        vectors = image_vectors(given, self.dim)
        images, pixels = vectors.shape[:2]
        classes = integers(labels.cpu() if on_gpu and is_tensor(labels) else labels, "labels")
        if classes.shape != (images,):
            raise ValueError(f"labels: expected shape ({images},), one for each image, got {classes.shape}")
        self._flush_when_much(images * pixels)
        with self._memory._adding.held():
            before = self._newest()
            added = (
                np.repeat(classes, pixels),
                np.repeat(np.arange(before.num_images, before.num_images + images), pixels),
                np.tile(np.arange(pixels), images),
            )
            stored = self._memory._extended(vectors, "activations")
            columns = [
                column.appended(len(before), rows) for column, rows in zip(self._columns, added, strict=True)
            ]
            self._memory._stored = labelled(stored, columns, before.num_images + images, before)
        self._flush_when_much(1)

    def remove(self, rows: Any = None, *, images: Any = None, labels: Any = None) -> int:
        """Leaves vectors out of every search and vote that begins from now on, and out of `class_counts`.

        Rows, images and classes keep their numbers, and the vectors their memory, until `compact`; `classes`
        stay, too. Costs what is removed, a copy of one bit for each row, and of `images` and `labels` a look
        at those of every row. Of an opened folder, `flush` and `close` write it.

        Args:
            rows: integers, rows of the memory, in any order; those removed already may be among them.
            images: integers, images whose vectors are removed.
            labels: integers, classes whose vectors are removed; one that no vector has removes none.

        Returns:
            How many vectors were removed now.

        Raises:
            TypeError: an argument is not of integers, or none was given.
            ValueError: a row or image is not there; nothing was removed then.
            io.UnsupportedOperation: the memory was opened for reading.
        """
        self._require_changeable()
        if rows is None and images is None and labels is None:
            raise TypeError("rows, images, labels: expected one of them at least")
        wanted = None if labels is None else integers(labels, "labels").ravel()
        with self._memory._adding.held():
            stored = self._newest()
            found = [np.empty(0, np.int64)]
            if rows is not None:
                found.append(numbers_below(rows, "rows", len(stored)))
            if images is not None:
                some = numbers_below(images, "images", stored.num_images)
                found.append(rows_with(stored.images, some))
            if wanted is not None:
                found.append(rows_with(stored.labels, wanted))
            self._memory._stored, gone = stored.without(np.concatenate(found))
        return len(gone)

    @property
    def removed(self) -> NDArray[np.bool_]:
        """Which rows were removed, (len,); a copy."""
        return self._memory.removed

    def compact(self, progress: Callable[[int], object] | None = None) -> NDArray[np.int64]:
        """Drops what was removed and numbers the other rows anew, in their order; images keep their numbers.

        Searches under way end with the old numbers. The next one packs the memory again. Of an opened folder
        this is a `flush`, which also merges small segments; only what changes is packed again. A class of
        which nothing is left goes from `classes`.

        Args:
            progress: of an opened folder, called with how many vectors were gone through, a segment at a
                time. Default: nothing is.

        Returns:
            int64 (len,), the new row of each old one; -1 for those that were removed.

        Raises:
            io.UnsupportedOperation, OSError: as `flush`, of a memory that was opened from a folder.
        """
        if self._memory._folder is not None:
            return self._compact_folder(progress)
        with self._memory._adding.held():
            numbers = self._memory._compacted()
            self._columns = tuple(GrowingArray.of(getattr(self._newest(), name)) for name in _COLUMNS)
        return numbers

    @property
    def device(self) -> str:
        """Where searches run, as torch names it; "cpu" unless `to` moved them."""
        return self._memory.device

    def to(self, device: Any, max_bytes: int | None = None) -> PixelMemory:
        """Moves searching and voting to a GPU, or back to the CPU; returns the memory itself.

        As `VectorMemory.to`; there log-likelihoods agree with the CPU's to about 1e-13, and are NaN for an
        image that holds NaN or Inf. A CUDA graph can hold a prediction too: predict once before capturing.

        Args:
            device: "cpu", "cuda", "cuda:1" or a torch.device.
            max_bytes: what the vectors may take on the GPU; see `VectorMemory.to`.

        Raises:
            TypeError, ValueError, RuntimeError, ImportError: as there.
        """
        self._memory.to(device, max_bytes)
        return self

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> SearchResult:
        """The k stored vectors nearest to each query.

        With `where`, `labels` or `exclude` the answer is, bit for bit, that of a memory of the vectors that
        are left, with the row numbers of this one.

        Args:
            queries: (..., dim).
            k: neighbours of each, at least 1. Where fewer can be found, the rest has index -1 and distance
                +inf; at most 65,536, or as many as are stored. Default 10.
            where: booleans (n,), which rows may be found; those from n on are not. A search costs what is
                left, and a look at the mask. Default None: all.
            labels: integers, the classes whose vectors may be found; with `where`, both hold. Default None:
                all.
            exclude: integers, an image whose vectors each query does not find, -1 for none, of the queries'
                shape (...) or the begin of that: (images,) for queries (images, pixels, dim). Default None.
            recall: a share of the k nearest that is enough; see `VectorMemory.search`. Default None: all.

        Returns:
            `SearchResult`: distances float32 (..., k), squared Euclidean, ascending, and indices int64
            (..., k), rows of the memory; ties go to the lower row.

        Raises:
            TypeError: a dtype is wrong.
            ValueError: the memory is empty, the last dimension is not `dim`, a value is not finite, `k` is
                out of range, `where` or `exclude` does not fit, or a `recall` would not pay.
            RuntimeError: a `recall` was asked for, and the memory is searched on a GPU.
        """
        return self._memory._search(queries, k, self._selection(where, labels, exclude), recall)

    def within(
        self,
        queries: Any,
        radius: float,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
    ) -> WithinResult:
        """`VectorMemory.within`; `where`, `labels` and `exclude` as for `search`."""
        return self._memory._within(queries, radius, self._selection(where, labels, exclude))

    def certify(self, queries: Any, k: int = 10, *, sample: int = 1000) -> Certificate:
        """`VectorMemory.certify`."""
        return self._memory.certify(queries, k, sample=sample)

    def log_likelihood(
        self,
        activations: Any,
        k: int = 10,
        eps: float = 1e-8,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> Any:
        """Log-likelihood of each image under each class, by `pyhue.density` over k neighbours a pixel.

        Vectors that `where`, `labels` and `exclude` leave out do not count in a class either: with
        `exclude=range(len(activations))` for the images that the memory was filled with, this is the
        leave-one-out estimate.

        Args:
            activations: (images, pixels, dim), or feature maps (images, dim, H, W).
            k: neighbours of each pixel vector, at least 1. Default 10.
            eps: added to the squared bandwidth, positive. Default 1e-8.
            where, labels: as for `search`.
            exclude: integers (images,), the stored image that each image does not find, -1 for none. Default
                None.
            recall: as for `search`: those that are found vote. Default None: all.

        Returns:
            float64 (images, num_classes), a column for each of `classes`; -inf for one without a neighbour.

        Raises:
            TypeError, ValueError: as `search`.
        """
        return self._vote(activations, k, eps, self._selection(where, labels, exclude), recall)[0]

    def predict(
        self,
        activations: Any,
        k: int = 10,
        eps: float = 1e-8,
        *,
        where: Any = None,
        labels: Any = None,
        exclude: Any = None,
        recall: float | None = None,
    ) -> Any:
        """The most likely class of each image, int64 (images,); arguments as for `log_likelihood`.

        Where no pixel finds a neighbour, as in an image that is all zero, it is the first of `classes`.
        """
        found, classes = self._vote(activations, k, eps, self._selection(where, labels, exclude), recall)
        return classes[found.argmax(1)]

    def optimize(self) -> None:
        """`VectorMemory.optimize`; pixels of one image do not stand for queries of each other."""
        folder = self._memory._folder
        if folder is not None and folder.writable and not self._memory._on_gpu:
            self._flush(replan=True)
        else:
            self._memory.optimize()

    def explain(self) -> dict[str, Any]:
        """`VectorMemory.explain`."""
        return self._memory.explain()

    def save(self, path: str | os.PathLike[str]) -> None:
        """`VectorMemory.save`: a folder, or one file where `path` ends in ".safetensors"."""
        if is_file_name(path):
            self._memory._save(path, memory_file.PIXELS, _described)
        else:
            self._save_folder(path)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Literal["r", "a"] = "r",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> PixelMemory:
        """`VectorMemory.open`: maps the folder of a memory."""
        opened = cls.__new__(cls)
        memory = VectorMemory._of_folder(open_folder(path, cls._FORMAT, mode, on_error))
        opened._begin_with(memory, memory._newest())
        return opened

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PixelMemory:
        """Reads a memory that `save` wrote, by this version or 0.1.0; what is added to it stays in memory.

        Nothing is unpickled.

        Raises:
            OSError: it cannot be read.
            ValueError: it is truncated, foreign, of another version, or its parts disagree.
        """
        loaded = cls.__new__(cls)
        if os.path.isdir(path):
            opened = cls.open(path)
            memory, stored = opened._memory._read(), opened._newest()
            labels, images, pixels = (np.array(getattr(stored, name)) for name in _COLUMNS)
            array = memory._newest().array
            stored = replace(stored, array=array, labels=labels, images=images, pixels=pixels)
            loaded._begin_with(memory, stored)
            return loaded
        contents = memory_file.load(path, memory_file.PIXELS)
        num_images = contents.numbers["num_images"]
        memory_file.require_range(path, "images", contents.columns["images"], num_images - 1)
        memory_file.require_range(path, "pixels", contents.columns["pixels"], 2**63 - 1)
        memory = VectorMemory._of(contents, path)
        columns = [contents.columns[name] for name in _COLUMNS]
        loaded._begin_with(memory, labelled(memory._newest(), columns, num_images))
        return loaded

    def _begin_with(self, memory: VectorMemory, stored: Labelled) -> None:
        self._memory = memory
        memory._stored = stored  # vectors and labels of one moment, replaced together
        self._columns = tuple(GrowingArray.of(getattr(stored, name)) for name in _COLUMNS)
        self._voting: DeviceDensity | None = None

    def _inner(self) -> VectorMemory:
        return self._memory

    def _take_over(self, stored: Labelled) -> None:
        self._memory._take_over(stored)
        self._columns = tuple(GrowingArray.of(getattr(stored, name)) for name in _COLUMNS)
        self._voting = None

    def _newest(self) -> Labelled:
        stored: Labelled = self._memory._newest()
        return stored

    def _on_gpu(self) -> DeviceDensity | None:
        """What votes on the GPU where `to` moved the memory."""
        search = self._memory._on_gpu
        if search is None:
            return None
        if self._voting is None or self._voting.search is not search:
            self._voting = DeviceDensity(search)
        return self._voting

    def _selection(self, where: Any, labels: Any, exclude: Any) -> Selection:
        return selection(where, exclude, self._newest().num_images, labels)

    def _vote(
        self, activations: Any, k: int, eps: float, chosen: Selection, recall: float | None
    ) -> tuple[Any, Any]:
        """Log-likelihoods (images, classes) and the classes, as and where the activations are."""
        eps, enough = positive_number(eps, "eps"), self._memory._enough(recall)
        voting = self._on_gpu()
        if voting is not None:
            place = voting.search
            found = voting.log_likelihood(self._newest, activations, k, eps, chosen)
            return place.like(found[0], activations), place.like(found[1], activations)
        vectors = floating(image_vectors(floating(activations, "activations"), self.dim), "activations")
        images, pixels, dim = vectors.shape
        flat = vectors.reshape(images * pixels, dim)
        chosen = chosen.of_queries((images,))
        of_pixels = chosen.of_pixels(pixels)
        search = self._memory._on_cpu.neighbors
        stored, distances, indices = search(self._newest, flat, "activations", k, of_pixels, enough)
        shape = (images, pixels, distances.shape[1])
        distances, columns = distances.reshape(shape), stored.columns(indices).reshape(shape)
        result = densities(distances, columns, chosen.class_counts(stored), eps)
        return like(result, activations), like(stored.classes.copy(), activations)


def _described(stored: Labelled) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
    """What a file says of labelled vectors."""
    return {name: getattr(stored, name) for name in _COLUMNS}, {"num_images": stored.num_images}
