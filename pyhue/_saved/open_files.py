"""Files of a memory's folder that are open: mapped once, and kept for as long as a manifest names them."""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._files.tensors import TensorFile
from pyhue._saved import manifest as manifests
from pyhue._saved.deleted import read_deleted
from pyhue._saved.joined import joined
from pyhue._saved.manifest import Entry, Manifest
from pyhue._saved.packed import open_packed, open_plan, read_packed, read_plan
from pyhue._saved.segments import Segment, missing_segment, open_segment
from pyhue._search.index import Index
from pyhue._search.packed import PackedPiece

_PACKED_BYTES = 1.3  # of a channel, at most


class OpenFiles:
    """What manifests of a folder name: segments, removed rows, the plan and the packed form.

    It reads, and is told what to let go of. Copies share what is mapped.

    Args:
        folder: where they are.
        skip: go without segments and removed rows that cannot be read, with a warning.
    """

    def __init__(self, folder: Path, skip: bool):
        self.folder = folder
        self._skip = skip
        self._segments: dict[Entry, Segment] = {}
        self._removed: dict[Entry, NDArray[np.int64]] = {}  # rows
        self._plans: dict[Entry, TensorFile] = {}
        self._packed: dict[tuple[Entry, Entry], TensorFile] = {}  # by segment and plan
        self._indices: dict[Entry, Index] = {}  # of no rows: what was read of plans
        self._pieces: dict[tuple[Entry, Entry], PackedPiece] = {}  # and of packed files, or made in memory

    def latest(self, **settings: Any) -> tuple[Manifest, OpenFiles]:
        """The manifest of the moment, of these settings, and a copy that has its files and no others.

        What could not be read is tried again. This one stays as it is.

        Raises:
            OSError, ValueError: the manifest or a file of it cannot be read, or has other settings.
        """
        left_out = self.left_out()
        files = self._only(lambda entry: entry not in left_out)
        while True:
            manifest = manifests.read(self.folder)
            for name, expected in settings.items():
                found = getattr(manifest, name)
                if found != expected:
                    raise ValueError(f"{self.folder}: expected a memory of {name} {expected}, got {found}")
            try:
                files._open(manifest)
                return manifest, files.of(manifest)
            except FileNotFoundError:
                if not self._replaced(manifest):
                    raise  # the file is missing

    def of(self, manifest: Manifest) -> OpenFiles:
        """A copy without what a manifest does not name."""
        named = {*manifest.segments, manifest.deleted, manifest.plan}
        return self._only(lambda entry: entry in named)

    def left_out(self) -> set[Entry]:
        """Segments, and files of removed rows, that could not be read."""
        segments = {entry for entry, segment in self._segments.items() if segment.left_out}
        return segments | {entry for entry, rows in self._removed.items() if len(rows) != entry.rows}

    def stored(self, manifest: Manifest) -> Any:
        """What is in a manifest's segments, without what was removed."""
        self._open_vectors(manifest)
        stored = joined(manifest, [self._segments[entry] for entry in manifest.segments])
        return stored.without(self.removed(manifest))[0] if manifest.deleted else stored

    def removed(self, manifest: Manifest) -> NDArray[np.int64]:
        """The rows that were removed, ascending."""
        return self._removed[manifest.deleted] if manifest.deleted else np.empty(0, np.int64)

    def segment(self, entry: Entry) -> Segment:
        """One of those that are open."""
        return self._segments[entry]

    def plan(self, manifest: Manifest) -> Index | None:
        """An index of no rows by a manifest's plan, which is read once; None where it names none.

        Raises:
            OSError, ValueError: it is not there, or damaged.
        """
        plan = manifest.plan
        if plan is None:
            return None
        if plan not in self._indices:
            self._indices[plan] = read_plan(self._plans.get(plan) or open_plan(self.folder, plan), manifest)
        found = self._indices[plan]
        return Index.of(found.plan, found.clusters, found.measured, (), manifest.epoch, found.reach)

    def piece(self, entry: Entry, plan: Entry, index: Index) -> PackedPiece:
        """A segment, packed by a plan whose index of no rows is `index`; `moved` says where it begins.

        Raises:
            OSError, ValueError: it is not there, or damaged.
        """
        key = entry, plan
        if key not in self._pieces:
            file = self._packed.get(key) or open_packed(self.folder, *key)
            self._pieces[key] = read_packed(file, entry, index, 0)
        return self._pieces[key]

    def replace_piece(self, entry: Entry, plan: Entry, piece: PackedPiece | None) -> None:
        """Goes on with another packed form of a segment; None: with the file that is there now."""
        for opened in (self._packed, self._pieces):
            opened.pop((entry, plan), None)
        if piece is not None:
            self._pieces[entry, plan] = piece

    def _only(self, keep: Callable[[Entry], bool]) -> OpenFiles:
        copied = copy.copy(self)
        copied._segments = {entry: each for entry, each in self._segments.items() if keep(entry)}
        copied._removed = {entry: rows for entry, rows in self._removed.items() if keep(entry)}
        copied._plans = {entry: file for entry, file in self._plans.items() if keep(entry)}
        copied._packed = {key: file for key, file in self._packed.items() if all(map(keep, key))}
        copied._indices = {entry: index for entry, index in self._indices.items() if keep(entry)}
        copied._pieces = {key: piece for key, piece in self._pieces.items() if all(map(keep, key))}
        return copied

    def _open(self, manifest: Manifest) -> None:
        self._open_vectors(manifest)
        self._open_packed(manifest)

    def _open_vectors(self, manifest: Manifest) -> None:
        """Segments, and which rows were removed."""
        scattered = _exceeds_memory(manifest)
        for entry in manifest.segments:
            if entry not in self._segments:
                self._segments[entry] = self._segment(manifest, entry, scattered)
        if manifest.deleted and manifest.deleted not in self._removed:
            self._removed[manifest.deleted] = self._removed_rows(manifest, manifest.deleted)

    def _segment(self, manifest: Manifest, entry: Entry, scattered: bool) -> Segment:
        try:
            return open_segment(self.folder, manifest, entry, scattered)
        except (OSError, ValueError) as error:
            self._leave_out(manifest, error)
        others = sum(len(each.vectors) for each in self._segments.values() if each.left_out)
        return missing_segment(self.folder, manifest, entry, others)

    def _removed_rows(self, manifest: Manifest, entry: Entry) -> NDArray[np.int64]:
        try:
            return read_deleted(self.folder, manifest, entry)
        except (OSError, ValueError) as error:
            self._leave_out(manifest, error)
        return np.empty(0, np.int64)

    def _open_packed(self, manifest: Manifest) -> None:
        """Plan and packed form, so that they stay when a writer replaces them."""
        plan = manifest.plan
        if plan is None:
            return
        if plan not in self._plans:
            with self._told_later(manifest):
                self._plans[plan] = open_plan(self.folder, plan)
        scattered = _exceeds_memory(manifest)
        for entry in manifest.segments:
            if (entry, plan) not in self._packed:
                with self._told_later(manifest):
                    self._packed[entry, plan] = open_packed(self.folder, entry, plan, scattered)

    @contextlib.contextmanager
    def _told_later(self, manifest: Manifest) -> Iterator[None]:
        """Goes without a file that cannot be opened: who needs it tries again, and is told then."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and self._replaced(manifest):
                raise

    def _leave_out(self, manifest: Manifest, error: Exception) -> None:
        """Warns of a file that cannot be read; raises its error where nothing is to be left out."""
        gone = isinstance(error, FileNotFoundError)
        if not self._skip or (gone and self._replaced(manifest)):
            raise error
        warnings.warn(f"left out: {error}", RuntimeWarning, stacklevel=4)

    def _replaced(self, manifest: Manifest) -> bool:
        """Whether there is another one meanwhile."""
        return manifests.read(self.folder).generation != manifest.generation


def _exceeds_memory(manifest: Manifest) -> bool:
    """Whether the machine's memory does not hold the folder: then what nobody asks for is in the way."""
    stored = 4 if manifest.dtype == "float32" else 2
    size = manifest.rows * manifest.dim * (stored + _PACKED_BYTES)
    return size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
