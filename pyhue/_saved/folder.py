"""A memory's folder, opened: what is mapped, who writes, what is published."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from dataclasses import replace
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._files.lock import FileLock
from pyhue._files.tensors import TensorFile
from pyhue._locks import Lock
from pyhue._saved import manifest as manifests
from pyhue._saved.deleted import read_deleted
from pyhue._saved.manifest import Entry, Manifest
from pyhue._saved.memory import PIXELS, Format
from pyhue._saved.packed import open_packed, open_plan, pack, read_packed, read_plan, write_packed
from pyhue._saved.segments import Segment, missing_segment, open_segment
from pyhue._search.chunked import ChunkedArray
from pyhue._search.host import first_index
from pyhue._search.index import Index
from pyhue._search.labelled import Labelled
from pyhue._search.packed import PackedPiece
from pyhue._search.stored import Stored

#: Of vectors: what is added is written when it is as much, and new segments have no more.
SEGMENT_BYTES = 1 << 30

_SETTINGS = ("kind", "dim", "normalize", "dtype")  # that a memory keeps while it is open


class Folder:
    """A memory's folder that this process reads, or reads and writes.

    Everything is published by replacing the manifest, after the files that it names are on disk. One thread
    at a time may call.

    Args:
        path: the folder.
        kind: of memory that is expected.
        mode: "r", or "a", which takes the lock of those who write.
        on_error: what a segment that cannot be read does: "raise", or "skip" to go without it.

    Raises:
        BlockingIOError: another process, or another memory of this one, writes to the folder.
        OSError: it is not there, or cannot be read or written.
        ValueError: the manifest or a segment is damaged, or of another kind of memory; it names the file.
    """

    def __init__(self, path: str | os.PathLike[str], kind: Format, mode: str, on_error: str = "raise"):
        self.path = Path(os.fsdecode(path))
        self.busy = Lock()  # for those who write, and those who map
        self.fresh = False  #: nothing was published yet
        self._skip = on_error == "skip"
        self._lock: FileLock | None = None
        self._segments: dict[Entry, Segment] = {}
        self._deleted: dict[Entry, NDArray[np.int64]] = {}  # rows
        self._pieces: dict[tuple[Entry, Entry], PackedPiece] = {}  # by segment and plan
        self._files: dict[tuple[Entry, ...], TensorFile] = {}  # the same packed, and the plan, mapped
        self._plan: tuple[Entry, Index] | None = None
        if mode == "a":
            manifests.read(self.path)  # so that nothing is made where there is no memory
            self._lock = FileLock(self.path / manifests.LOCK)
        try:
            self.manifest = self._latest(kind=kind.name)
            if self._lock:
                self.clean()
        except BaseException:
            self.close()
            raise

    @classmethod
    def made(cls, path: str | os.PathLike[str], empty: Manifest) -> Folder:
        """One to be written whole, in the place of what is there: published by its first `publish`.

        Raises:
            BlockingIOError: it is being written.
            FileExistsError: it is there, and no memory.
            OSError: it cannot be made.
        """
        folder = object.__new__(cls)
        folder.path, folder.busy, folder.fresh, folder._skip = Path(os.fsdecode(path)), Lock(), True, False
        folder._segments, folder._deleted, folder._pieces, folder._plan = {}, {}, {}, None
        folder._files = {}
        if not folder.path.is_dir():
            folder.path.mkdir()
        elif not manifests.is_memory(folder.path):
            raise FileExistsError(17, "a folder with something else in it", str(folder.path))
        folder._lock = FileLock(folder.path / manifests.LOCK)
        try:
            old = manifests.read(folder.path)
            empty = replace(empty, generation=old.generation, epoch=old.epoch + 1, next=old.next)
        except FileNotFoundError:
            pass
        except (OSError, ValueError):  # its numbers are unknown; readers may have it still
            behind = int(time.time())
            empty = replace(empty, generation=behind, epoch=behind, next=behind)
        folder.manifest = replace(empty, next=max(empty.next, manifests.unused(folder.path)))
        return folder

    @property
    def writable(self) -> bool:
        """Whether this process may write."""
        return self._lock is not None and self._lock.held

    def require_writable(self) -> None:
        """Raises io.UnsupportedOperation unless it is."""
        if not self.writable:
            raise UnsupportedOperation(f"{self.path}: opened for reading; open it with mode='a' to change it")

    def close(self) -> None:
        """Lets others write."""
        if self._lock:
            self._lock.release()

    # ---- what is there ----

    def stored(self, manifest: Manifest | None = None) -> Any:
        """What is in a manifest's segments, mapped, and what was removed. Default: the latest's."""
        manifest = manifest or self.manifest
        self._map(manifest)
        stored = self._of_segments(manifest)
        return stored.without(self._deleted[manifest.deleted])[0] if manifest.deleted else stored

    def _of_segments(self, manifest: Manifest) -> Stored:
        segments = [self._segments[entry] for entry in manifest.segments]
        dtype = np.float32 if manifest.dtype == "float32" else np.uint16
        tail = np.empty((0, manifest.dim), dtype)
        array = ChunkedArray([segment.vectors for segment in segments] or [tail])
        zero = [segment.zero + start for segment, start in zip(segments, array.starts, strict=False)]
        hidden = np.concatenate([np.empty(0, np.int64), *zero])
        if manifest.kind != PIXELS.name:
            return Stored(array, hidden, epoch=manifest.epoch)
        none = [np.empty(0, np.int64)]
        columns = {
            name: ChunkedArray([segment.columns[name] for segment in segments] or none)
            for name in PIXELS.columns
        }
        classes = np.unique(np.concatenate(none + [segment.classes for segment in segments]))
        counts = np.zeros(len(classes), np.int64)
        for segment in segments:
            counts[np.searchsorted(classes, segment.classes)] += segment.class_counts
        for each in (classes, counts):
            each.flags.writeable = False
        return Labelled(
            array,
            hidden,
            epoch=manifest.epoch,
            labels=columns["labels"],
            images=columns["images"],
            pixels=columns["pixels"],
            classes=classes,
            class_counts=counts,
            num_images=manifest.images,
        )

    def narrow(self, entries: tuple[Entry, ...]) -> Any:
        """Goes on with some of the segments alone, whose rows are numbered by themselves; what is in them."""
        whole, gone, begin = self.manifest, [np.empty(0, np.int64)], 0
        removed = self._deleted[whole.deleted] if whole.deleted else gone[0]
        for entry, rows in whole.ranges():
            if entry in entries:
                first, last = np.searchsorted(removed, (rows.start, rows.stop))
                gone.append(removed[first:last] - rows.start + begin)
                begin += entry.rows
        self.manifest = replace(whole, segments=entries, deleted=None)
        return self.stored().without(np.concatenate(gone))[0]

    def refresh(self) -> bool:
        """Takes the manifest of the moment, and files that could not be read before; whether that is new.

        Raises:
            OSError, ValueError: as when it is opened, or the folder holds a memory with other settings now.
        """
        if self.writable:
            return False
        with self.busy.held():
            manifest, before = self.manifest, (self._segments, self._deleted, self._files)
            whole = self._whole()
            self._segments = {entry: self._segments[entry] for entry in self._segments if entry in whole}
            self._deleted = {entry: self._deleted[entry] for entry in self._deleted if entry in whole}
            self._files = dict(self._files)
            try:
                self.manifest = self._latest(**{name: getattr(manifest, name) for name in _SETTINGS})
            except BaseException:
                self._segments, self._deleted, self._files = before
                raise
            self._forget_others()
            return self.manifest != manifest or self._whole() != whole

    def index(self, stored: Stored) -> Index:
        """The packed form on disk; what is missing or damaged is packed anew, in memory at least."""
        with self.busy.held():  # so that the manifest is not replaced meanwhile, and its files removed
            manifest = self.manifest
            try:
                plan = self.plan(manifest)
            except (OSError, ValueError) as error:
                _made_anew(error)
                plan = None
            if plan is not None and stored.epoch == manifest.epoch:
                there = [each for each in manifest.ranges() if each[1].stop <= len(stored)]
                return plan.with_pieces(self.piece(manifest, plan, stored, *each) for each in there)
        if plan is not None:  # whoever replaced the manifest is about to replace `stored`
            return Index.of(plan.plan, None, {}, (), stored.epoch)
        return first_index(stored)

    def plan(self, manifest: Manifest) -> Index | None:
        """An index of no rows by a manifest's plan, which is read once; None where it names none.

        Raises:
            OSError, ValueError: it is not there, or damaged.
        """
        if manifest.plan is None:
            return None
        if self._plan is None or self._plan[0] != manifest.plan:
            file = self._files.get((manifest.plan,)) or open_plan(self.path, manifest.plan)
            self._plan = manifest.plan, read_plan(file, manifest)
        found = self._plan[1]
        return Index.of(found.plan, found.clusters, found.measured, (), manifest.epoch, found.reach)

    def piece(
        self, manifest: Manifest, plan: Index, stored: Stored, entry: Entry, rows: range
    ) -> PackedPiece:
        """A segment, packed by the manifest's plan: mapped, or packed now and written if that is possible."""
        assert manifest.plan is not None
        key = entry, manifest.plan
        if self._segments[entry].left_out:
            return pack(plan, stored, rows)  # none of them
        if key not in self._pieces:
            try:
                file = self._files.get(key) or open_packed(self.path, *key)
                self._pieces[key] = read_packed(file, entry, plan, rows.start)
            except (OSError, ValueError) as error:
                _made_anew(error)
                self._pieces[key] = pack(plan, stored, rows)
                if self.writable:
                    with contextlib.suppress(OSError):  # a full disk, perhaps: then it stays in memory
                        write_packed(self.path, entry, manifest.plan.number, self._pieces[key])
                        self._pieces[key] = read_packed(open_packed(self.path, *key), entry, plan, rows.start)
        return self._pieces[key].moved(rows.start)

    def repack(self, entry: Entry, rows: range) -> None:
        """Makes the packed form of a segment anew."""
        plan = self.plan(self.manifest)
        if plan is not None and self.manifest.plan is not None:
            for mapped in (self._pieces, self._files):
                mapped.pop((entry, self.manifest.plan), None)
            piece = pack(plan, self.stored(), rows)
            write_packed(self.path, entry, self.manifest.plan.number, piece)

    def clean(self) -> None:
        """Removes what the manifest on disk does not name; no number of a file is used again."""
        try:
            there = manifests.read(self.path)
        except FileNotFoundError:
            there = None
        following = max(self.manifest.next, manifests.unused(self.path))
        self.manifest = replace(self.manifest, next=following)
        manifests.remove_others(self.path, there)

    def publish(self, manifest: Manifest) -> None:
        """Replaces the manifest; from then on the memory on disk is what it says."""
        self.manifest = manifests.write(self.path, manifest)
        self.fresh = False
        self._forget_others()
        with contextlib.suppress(OSError):  # what is left over does no harm, and goes the next time
            manifests.remove_others(self.path, self.manifest)

    def _forget_others(self) -> None:
        """Lets go of what the manifest does not name."""
        manifest = self.manifest
        segments, plan = set(manifest.segments), manifest.plan
        self._segments = {entry: each for entry, each in self._segments.items() if entry in segments}
        self._deleted = {entry: rows for entry, rows in self._deleted.items() if entry == manifest.deleted}
        self._pieces = {
            key: piece for key, piece in self._pieces.items() if key[0] in segments and key[1] == plan
        }
        self._files = {
            key: file
            for key, file in self._files.items()
            if key[-1] == plan and (len(key) == 1 or key[0] in segments)
        }

    def _latest(self, **settings: Any) -> Manifest:
        """The manifest of the moment, of these settings; all its files are mapped, removed rows read."""
        while True:
            manifest = manifests.read(self.path)
            for name, expected in settings.items():
                if getattr(manifest, name) != expected:
                    found = getattr(manifest, name)
                    raise ValueError(f"{self.path}: expected a memory of {name} {expected}, got {found}")
            try:
                self._map(manifest)
                self._map_packed(manifest)
                return manifest
            except FileNotFoundError:
                if not self._replaced(manifest):
                    raise  # the file is missing

    def _map(self, manifest: Manifest) -> None:
        for entry in manifest.segments:
            if entry not in self._segments:
                try:
                    self._segments[entry] = open_segment(self.path, manifest, entry)
                except (OSError, ValueError) as error:
                    self._leave_out(manifest, error)
                    others = sum(len(each.vectors) for each in self._segments.values() if each.left_out)
                    self._segments[entry] = missing_segment(self.path, manifest, entry, others)
        if manifest.deleted and manifest.deleted not in self._deleted:
            try:
                rows = read_deleted(self.path, manifest, manifest.deleted)
            except (OSError, ValueError) as error:
                self._leave_out(manifest, error)
                rows = np.empty(0, np.int64)
            self._deleted[manifest.deleted] = rows

    def _map_packed(self, manifest: Manifest) -> None:
        """Plan and packed form, so that they stay when a writer replaces them; errors are told later."""
        if manifest.plan is None:
            return
        for key in ((manifest.plan,), *((entry, manifest.plan) for entry in manifest.segments)):
            if key in self._files:
                continue
            try:
                found = open_plan(self.path, *key) if len(key) == 1 else open_packed(self.path, *key)
                self._files[key] = found
            except FileNotFoundError:
                if self._replaced(manifest):
                    raise
            except (OSError, ValueError):
                pass  # who needs it opens it again

    def _replaced(self, manifest: Manifest) -> bool:
        """Whether there is another one meanwhile."""
        return manifests.read(self.path).generation != manifest.generation

    def _whole(self) -> set[Entry]:
        """Segments, and files of removed rows, that could be read."""
        segments = {entry for entry, segment in self._segments.items() if not segment.left_out}
        return segments | {entry for entry, rows in self._deleted.items() if len(rows) == entry.rows}

    def _leave_out(self, manifest: Manifest, error: Exception) -> None:
        """Warns of a file that cannot be read; raises its error where nothing is to be left out."""
        gone = isinstance(error, FileNotFoundError)
        if not self._skip or (gone and self._replaced(manifest)):
            raise error
        warnings.warn(f"left out: {error}", RuntimeWarning, stacklevel=3)


def _made_anew(error: Exception) -> None:
    warnings.warn(f"packed anew: {error}", RuntimeWarning, stacklevel=2)
