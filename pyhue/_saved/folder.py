"""A memory's folder, opened: who reads and who writes, what is published, the packed form made anew."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import warnings
from dataclasses import replace
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

import numpy as np

from pyhue._files.lock import FileLock
from pyhue._locks import Lock
from pyhue._saved import manifest as manifests
from pyhue._saved.manifest import Entry, Manifest, packed_name
from pyhue._saved.memory import Format
from pyhue._saved.open_files import OpenFiles
from pyhue._saved.packed import pack, write_packed
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
    """

    def __init__(self, manifest: Manifest, files: OpenFiles, lock: FileLock | None, fresh: bool):
        self.path = files.folder
        self.busy = Lock()  # for those who write, and those who map
        self.fresh = fresh  #: nothing was published yet
        self.manifest = manifest
        self._files = files
        self._lock = lock

    @classmethod
    def opened(cls, path: str | os.PathLike[str], kind: Format, mode: str, on_error: str = "raise") -> Folder:
        """One that is there.

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
        place, lock = _place(path), None
        if place.is_file():
            raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder; `load` reads one", str(place))
        if mode == "a":
            place = Path(os.path.realpath(place))  # what is locked is written, wherever links lead later
            manifests.read(place)  # so that nothing is made where there is no memory
        files = OpenFiles(place, skip=on_error == "skip")
        if mode == "a":
            lock = FileLock(files.folder / manifests.LOCK)
        try:
            manifest, files = files.latest(kind=kind.name)
            folder = cls(manifest, files, lock, fresh=False)
            if lock:
                folder.clean()
        except BaseException:
            if lock:
                lock.release()
            raise
        return folder

    @classmethod
    def made(cls, path: str | os.PathLike[str], empty: Manifest) -> Folder:
        """One to be written whole, in the place of what is there: published by its first `publish`.

        Raises:
            BlockingIOError: it is being written.
            FileExistsError: it is there, and no memory.
            OSError: it cannot be made.
        """
        place = _place(path)
        if not place.is_dir():
            place.mkdir()
        elif not manifests.is_memory(place):
            raise FileExistsError(errno.EEXIST, "a folder with something else in it", str(place))
        place = Path(os.path.realpath(place))
        lock = FileLock(place / manifests.LOCK)
        return cls(_following(place, empty), OpenFiles(place, skip=False), lock, fresh=True)

    @property
    def writable(self) -> bool:
        """Whether this process may write."""
        return self._lock is not None and self._lock.held

    def require_writable(self) -> None:
        """Raises io.UnsupportedOperation unless it is."""
        if not self.writable:
            raise UnsupportedOperation(f"{self.path}: opened for reading; open it with mode='a' to change it")

    def lacks(self, stored: Any) -> bool:
        """Whether something was added or removed that was not published."""
        images = stored.num_images if isinstance(stored, Labelled) else 0  # one may have no pixels
        added = len(stored) != self.manifest.rows or images != self.manifest.images
        return added or self.forgets(stored)

    def forgets(self, stored: Any) -> bool:
        """Whether rows were removed, and that was not published."""
        deleted = self.manifest.deleted
        removed: int = stored.num_removed
        return removed != (deleted.rows if deleted else 0)

    def require_whole(self) -> None:
        """Raises ValueError where something of it could not be read, and was left out."""
        if left_out := len(self._files.left_out()):
            files = "a file" if left_out == 1 else f"{left_out} files"
            raise ValueError(f"memory: without {files} of {self.path}, whose content would be lost")

    def require_place(self) -> None:
        """Raises OSError where the folder was moved: of one that is in its place now this has no lock."""
        if self._lock:
            self._lock.require_place()

    def close(self) -> None:
        """Lets others write."""
        if self._lock:
            self._lock.release()

    # ---- what is there ----

    def stored(self, manifest: Manifest | None = None) -> Any:
        """What is in a manifest's segments, mapped, and what was removed. Default: the latest's."""
        return self._files.stored(manifest or self.manifest)

    def narrow(self, entries: tuple[Entry, ...]) -> Any:
        """Goes on with some of the segments alone, whose rows are numbered by themselves; what is in them."""
        whole, gone, begin = self.manifest, [np.empty(0, np.int64)], 0
        removed = self._files.removed(whole)
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
            before, left_out = self.manifest, self._files.left_out()
            settings = {name: getattr(before, name) for name in _SETTINGS}
            self.manifest, self._files = self._files.latest(**settings)
            return self.manifest != before or self._files.left_out() != left_out

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
        return self._files.plan(manifest)

    def piece(
        self, manifest: Manifest, plan: Index, stored: Stored, entry: Entry, rows: range
    ) -> PackedPiece:
        """A segment, packed by the manifest's plan: mapped, or packed now and written if that is possible."""
        assert manifest.plan is not None
        if self._files.segment(entry).left_out:
            return pack(plan, stored, rows)  # none of them
        try:
            piece = self._files.piece(entry, manifest.plan, plan)
        except (OSError, ValueError) as error:
            _made_anew(error)
            piece = pack(plan, stored, rows)
            self._files.replace_piece(entry, manifest.plan, piece)
            if self.writable:
                with contextlib.suppress(OSError):  # a full disk, perhaps: then it stays in memory
                    write_packed(self.path, entry, manifest.plan.number, piece)
                    self._files.replace_piece(entry, manifest.plan, None)
                    piece = self._files.piece(entry, manifest.plan, plan)
        return piece.moved(rows.start)

    def repack(self, entry: Entry, rows: range) -> None:
        """Makes the packed form of a segment anew."""
        self.require_place()
        plan = self.plan(self.manifest)
        if plan is not None and self.manifest.plan is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path / packed_name(entry.number, self.manifest.plan.number))
            self._files.replace_piece(entry, self.manifest.plan, None)
            piece = pack(plan, self.stored(), rows)
            write_packed(self.path, entry, self.manifest.plan.number, piece)

    def clean(self) -> None:
        """Removes what the manifest on disk does not name; no number of a file is used again."""
        self.require_place()
        try:
            there = manifests.read(self.path)
        except FileNotFoundError:
            there = None
        following = max(self.manifest.next, manifests.unused(self.path))
        self.manifest = replace(self.manifest, next=following)
        manifests.remove_others(self.path, there)

    def roll_back(self, before: Manifest) -> None:
        """Goes back to an earlier manifest, to which segments were added since; the plan is that of now."""
        self.require_place()
        with self.busy.held():
            now = manifests.read(self.path)  # not what this process knows: it may have been interrupted
            if now.generation != before.generation:
                self.publish(
                    replace(
                        before, generation=now.generation, epoch=now.epoch + 1, next=now.next, plan=now.plan
                    )
                )

    def publish(self, manifest: Manifest) -> None:
        """Replaces the manifest; from then on the memory on disk is what it says."""
        self.manifest = manifests.write(self.path, manifest)
        self.fresh = False
        self._files = self._files.of(self.manifest)
        with contextlib.suppress(OSError):  # what is left over does no harm, and goes the next time
            self.require_place()
            manifests.remove_others(self.path, self.manifest)


def _place(path: str | os.PathLike[str]) -> Path:
    """Of a folder, wherever the process goes; links are followed when files are opened."""
    return Path(os.fsdecode(path)).absolute()


def _following(path: Path, empty: Manifest) -> Manifest:
    """A manifest to be published in the place of what is there: no number is used again."""
    try:
        old = manifests.read(path)
        empty = replace(empty, generation=old.generation, epoch=old.epoch + 1, next=old.next)
    except FileNotFoundError:
        pass
    except (OSError, ValueError):  # its numbers are unknown; readers may have it still
        behind = int(time.time())
        empty = replace(empty, generation=behind, epoch=behind, next=behind)
    return replace(empty, next=max(empty.next, manifests.unused(path)))


def _made_anew(error: Exception) -> None:
    warnings.warn(f"packed anew: {error}", RuntimeWarning, stacklevel=2)
