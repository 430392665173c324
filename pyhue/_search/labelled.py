"""Stored vectors, and of which image, place and class each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyhue._search.chunked import Rows
from pyhue._search.stored import Stored


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled(Stored):
    """A memory's vectors and their labels at one moment."""

    labels: Rows  #: int64 (n,)
    images: Rows  #: int64 (n,)
    pixels: Rows  #: int64 (n,)
    classes: NDArray[np.int64]  #: labels that occur, ascending
    class_counts: NDArray[np.int64]  #: findable vectors of each class
    num_images: int

    @property
    def groups(self) -> NDArray[np.int64]:
        """Images."""
        return np.asarray(self.images)

    def columns(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in `classes` of the vectors in these rows; -1 for -1."""
        labels = self.labels[indices]
        counted = len(self.classes) == 0 or (
            self.classes[0] == 0 and self.classes[-1] == len(self.classes) - 1
        )
        return np.where(indices >= 0, labels if counted else np.searchsorted(self.classes, labels), -1)

    def counts_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of these rows, each there once, can be found, by class."""
        bits = np.zeros(len(rows), bool)
        inside = rows < 8 * len(self.removed)
        bits[inside] = self.removed[rows[inside] >> 3] >> (rows[inside] & 7).astype(np.uint8) & 1
        places = np.searchsorted(self.hidden, rows)
        hidden = np.zeros(len(rows), bool)
        behind = places < len(self.hidden)
        hidden[behind] = self.hidden[places[behind]] == rows[behind]
        return np.bincount(self.columns(rows[~(bits | hidden)]), minlength=len(self.classes))

    def without(self, rows: NDArray[np.int64]) -> tuple[Labelled, NDArray[np.int64]]:
        """As `Stored.without`; classes stay, and their counts follow."""
        there, gone = super().without(rows)
        return replace(there, class_counts=read_only(self.class_counts - self.counts_of(gone))), gone

    def compacted(self, rows: NDArray[np.int64]) -> Labelled:
        """As `Stored.compacted`; a class without a row goes, images keep their numbers."""
        columns = [column[rows] for column in (self.labels, self.images, self.pixels)]
        stored = Stored(self.array, self.hidden, self.removed, self.epoch).compacted(rows)
        return labelled(stored, columns, self.num_images)


def labelled(
    stored: Stored, columns: Sequence[Rows], num_images: int, before: Labelled | None = None
) -> Labelled:
    """Vectors with their labels, images and pixels; of the first, which are `before`, classes are counted."""
    labels, images, pixels = columns
    begin, seen = (len(before), len(before.hidden)) if before else (0, 0)
    classes, counts = np.unique(labels[begin:], return_counts=True)
    counts -= np.bincount(np.searchsorted(classes, labels[stored.hidden[seen:]]), minlength=len(classes))
    if before:
        added, added_counts = classes, counts
        classes = np.union1d(before.classes, added)
        counts = np.zeros(len(classes), np.int64)
        counts[np.searchsorted(classes, before.classes)] = before.class_counts
        counts[np.searchsorted(classes, added)] += added_counts
    found = Labelled(
        stored.array,
        stored.hidden,
        stored.removed,
        stored.epoch,
        labels=labels,
        images=images,
        pixels=pixels,
        classes=read_only(classes),
        class_counts=read_only(counts),
        num_images=num_images,
    )
    if before or not len(stored.removed):
        return found
    return replace(found, class_counts=read_only(found.counts_of(np.arange(len(found)))))


def read_only(column: Rows) -> NDArray[np.int64]:
    """A column as an array that nobody can write to: a view, or a copy of one that lies in several files."""
    view: NDArray[np.int64] = np.asarray(column).view()
    view.flags.writeable = False
    return view
