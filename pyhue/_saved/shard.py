"""Some segments of a memory's folder, which one of several processes searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._saved import manifest as manifests
from pyhue._saved.folder import Folder
from pyhue._saved.manifest import Entry, Manifest
from pyhue._saved.memory import PIXELS, VECTORS
from pyhue._search.host import HostSearch
from pyhue._search.index import Agreed
from pyhue._search.labelled import Labelled
from pyhue._search.selection import Selection


class Shard:
    """The share of one of `count` processes in a folder: it answers for its vectors, by the memory's rows.

    Raises:
        OSError, ValueError: as `Folder.opened`.
    """

    def __init__(self, path: Path, number: int, count: int):
        kind = PIXELS if manifests.read(path).kind == PIXELS.name else VECTORS
        folder = Folder.opened(path, kind, "r")
        self.manifest = folder.manifest  #: of the whole memory
        own = shares(self.manifest, count)[number]
        self._rows = [rows for entry, rows in self.manifest.ranges() if entry in own]
        self._starts = np.cumsum([0, *map(len, self._rows)])
        self.stored: Any = folder.narrow(tuple(own))  #: numbered by itself
        self.search = HostSearch(self.manifest.normalize, None, folder.index)

    def nearest(
        self,
        queries: NDArray[Any],
        name: str,
        k: int,
        chosen: Selection,
        agreed: Agreed | None = None,
        recall: float | None = None,
        kth: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Distances, rows and labels (n, at most k) of its nearest vectors, up to the limits agreed on.

        `agreed` is called once, unless an error comes before. With a `recall` instead, `kth` (n,) are the
        k-th of what all shards' `first_distances` gave.
        """
        if not len(self.stored):
            if agreed:
                agreed(np.empty((len(queries), 0), np.float32))
            none = np.empty((len(queries), 0), np.int64)
            return none.astype(np.float32), none, none
        count = k if recall is not None else min(k, len(self.stored))
        own = self._own(chosen)
        found = self.search.neighbors(lambda: self.stored, queries, name, count, own, recall, kth, agreed)
        stored, distances, indices = found
        labels = stored.labels[indices] if isinstance(stored, Labelled) else np.zeros_like(indices)
        return distances, self._of_memory(indices), labels

    def first_distances(
        self, queries: NDArray[Any], name: str, k: int, chosen: Selection
    ) -> NDArray[np.float32]:
        """(n, at most k), what a search with a recall begins with."""
        if not len(self.stored):
            return np.empty((len(queries), 0), np.float32)
        return self.search.first_distances(lambda: self.stored, queries, name, k, self._own(chosen))

    def left(self, chosen: Selection) -> int:
        """How many of its vectors `where` and `labels` leave."""
        return int(np.count_nonzero(self._own(chosen).mask(self.stored)))

    def within(
        self, queries: NDArray[Any], radius: float, chosen: Selection
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Limits, distances and rows of its vectors up to a distance."""
        if not len(self.stored):
            limits = np.zeros(len(queries) + 1, np.int64)
            return limits, np.empty(0, np.float32), np.empty(0, np.int64)
        found = self.search.within(lambda: self.stored, queries, radius, self._own(chosen))
        return found[0], found[1], self._of_memory(found[2])

    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Classes of its vectors, and how many of each can be found; none without labels."""
        if isinstance(self.stored, Labelled):
            return self.stored.classes, self.stored.class_counts
        return np.empty(0, np.int64), np.empty(0, np.int64)

    def class_counts(self, classes: NDArray[np.int64], chosen: Selection) -> NDArray[np.int64]:
        """`Selection.class_counts` of its vectors, in the columns of all `classes` of the memory."""
        shape = () if chosen.exclude is None else (len(chosen.exclude),)
        counts = np.zeros((*shape, len(classes)), np.int64)
        if len(self.stored):
            columns = np.searchsorted(classes, self.stored.classes)
            counts[..., columns] = self._own(chosen).class_counts(self.stored)
        return counts

    def _own(self, chosen: Selection) -> Selection:
        """The same selection, of its own vectors."""
        where, exclude = chosen.where, chosen.exclude
        if where is not None:
            whole = np.zeros(self.manifest.rows, bool)
            whole[: len(where)] = where
            where = np.concatenate([whole[:0], *(whole[rows.start : rows.stop] for rows in self._rows)])
        if exclude is not None and not isinstance(self.stored, Labelled):
            rows, exclude = exclude, np.full_like(exclude, -1)
            for start, own in zip(self._starts, self._rows, strict=False):
                here = (rows >= own.start) & (rows < own.stop)
                exclude[here] = rows[here] - own.start + start
        return Selection(where, chosen.labels, exclude)

    def _of_memory(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the memory for its own; -1 for -1."""
        moved = np.array([rows.start for rows in self._rows]) - self._starts[:-1]
        places = np.searchsorted(self._starts, indices, side="right") - 1
        return np.where(indices < 0, -1, indices + moved[np.maximum(places, 0)])


def shares(manifest: Manifest, count: int) -> list[list[Entry]]:
    """The segments of each of `count` processes, in their order: the longest first to whom has least."""
    rows, owner = [0] * count, {}
    for entry in sorted(manifest.segments, key=lambda entry: -entry.rows):
        least = rows.index(min(rows))
        owner[entry] = least
        rows[least] += entry.rows
    return [[entry for entry in manifest.segments if owner[entry] == number] for number in range(count)]
