"""What memories of both kinds do in a folder: write, follow, tidy up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pyhue._saved import folder as folders
from pyhue._saved.check import check
from pyhue._saved.folder import Folder
from pyhue._saved.manifest import Manifest
from pyhue._saved.memory import Format
from pyhue._saved.publish import compact, publish


def open_folder(path: str | os.PathLike[str], kind: Format, mode: str, on_error: str) -> Folder:
    """The folder of a memory, arguments checked."""
    if mode not in ("r", "a"):
        raise ValueError(f"mode: expected 'r' or 'a', got {mode!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    if mode == "a" and on_error == "skip":
        raise ValueError("on_error: expected 'raise' with mode 'a': the skipped would be lost, got 'skip'")
    return Folder.opened(path, kind, mode, on_error)


class OnDisk:
    """Methods of a memory that was opened from a folder.

    `_inner`, of a subclass, is the VectorMemory, and `_take_over` puts other vectors in the place of those
    stored.
    """

    _FORMAT: ClassVar[Format]

    def flush(self) -> None:
        """Writes what was added and removed to the folder: when this returns, it outlives any crash.

        Added vectors become a segment, packed like the others; the folder gets a plan when it has none and
        20,000 vectors or more, or when the plan cannot be read. Which rows were removed becomes a file of one
        bit for each row. Readers see both when they `refresh`.

        Raises:
            io.UnsupportedOperation: the memory was opened for reading, or belongs to no folder.
            OSError: the disk is full, say: the folder is as it was, and what was added still in memory.
        """
        self._flush()

    def refresh(self) -> bool:
        """Goes on to what is in the folder now; whether that is another state than before.

        Until then a reader sees the state that it opened. What this process writes it sees at once.

        Raises:
            io.UnsupportedOperation: the memory belongs to no folder.
            OSError, ValueError: as `open`, or a memory with other settings was saved over it; this one stays
                as it was.
        """
        folder, inner = self._opened(), self._inner()
        with inner._adding.held():
            changed = folder.refresh()
            if changed:
                self._follow(folder, folder.stored(), repack=False)
        return changed

    def close(self) -> None:
        """Flushes, where the memory was opened with mode "a", and lets others write. It is of no use then.

        Closing it once more does nothing.

        Raises:
            OSError: as `flush`; the memory is closed nevertheless: `save` it elsewhere before.
            io.UnsupportedOperation: the memory belongs to no folder.
        """
        if self._inner()._closed:
            return
        folder, inner = self._opened(), self._inner()
        try:
            if folder.writable:
                self._flush()
        finally:
            folder.close()
            inner._closed = True

    def check(self, progress: Callable[[int], object] | None = None) -> list[str]:
        """Reads the whole folder, as it is now, and compares every array with its checksum.

        Where the memory was opened with mode "a", damaged files of the packed form are made anew, unless
        others are damaged, too.

        Args:
            progress: called with the bytes of each part that was read. Default: nothing is.

        Returns:
            What is wrong with which file; empty where nothing is.

        Raises:
            io.UnsupportedOperation: the memory belongs to no folder.
            FileNotFoundError: the folder was opened with mode "a", and moved.
        """
        folder, inner = self._opened(), self._inner()
        with folder.busy.held():
            wrong = check(folder, progress or (lambda size: None))
        if wrong and folder.writable:
            with inner._adding.held():
                self._follow(folder, inner._newest(), repack=False)  # the packed form that was made anew
        return wrong

    def __enter__(self) -> Self:
        self._inner()._newest()  # it is open
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._inner()._folder is not None:
            self.close()

    # ---- for both memories ----

    def _inner(self) -> Any:
        raise NotImplementedError

    def _take_over(self, stored: Any) -> None:
        raise NotImplementedError

    def _opened(self) -> Folder:
        from io import UnsupportedOperation

        inner = self._inner()
        if inner._closed:
            raise ValueError("memory: closed")
        if inner._folder is None:
            raise UnsupportedOperation("memory: belongs to no folder; `save` it to one and `open` that")
        folder: Folder = inner._folder
        return folder

    def _require_changeable(self) -> None:
        """Raises what `add` and `remove` do where the memory was opened for reading, or is closed."""
        if self._inner()._folder is not None:
            self._opened().require_writable()

    def _flush(self, replan: bool = False) -> None:
        folder, inner = self._opened(), self._inner()
        folder.require_writable()
        with inner._adding.held():
            self._follow(folder, publish(folder, inner._newest(), replan=replan), repack=replan)

    def _compact_folder(self, progress: Callable[[int], object] | None) -> NDArray[np.int64]:
        """`compact`, of a memory that belongs to a folder."""
        folder, inner = self._opened(), self._inner()
        folder.require_writable()
        with inner._adding.held():
            self._follow(folder, publish(folder, inner._newest()), repack=False)
            stored, numbers = compact(folder, inner._newest(), progress or (lambda count: None))
            self._follow(folder, stored, repack=False)
        return numbers

    def _flush_when_much(self, more: int) -> None:
        """Writes what was added, where so many rows more would be too many for a segment."""
        inner = self._inner()
        if inner._folder is not None:
            stored = inner._newest()
            rows = len(stored) - inner._folder.manifest.rows
            if rows and (rows + more) * stored.dim * stored.array.itemsize > folders.SEGMENT_BYTES:
                self._flush()

    def _follow(self, folder: Folder, stored: Any, repack: bool) -> None:
        if stored is not self._inner()._stored:
            self._take_over(stored)
        search = self._inner()._on_cpu
        if repack or search.index is not None:
            search.replace(folder.index(stored))

    def _abandon(self, undo: Callable[[], object]) -> None:
        """Closes without writing what was added and removed since the last `flush`; `undo`, then lets go."""
        folder, inner = self._opened(), self._inner()
        try:
            undo()
        finally:
            folder.close()
            inner._closed = True

    def _name_classes(self, names: Sequence[str]) -> None:
        """Has the next `flush` note what the classes 0 and on are called."""
        folder, inner = self._opened(), self._inner()
        folder.require_writable()
        with inner._adding.held():
            folder.manifest = replace(folder.manifest, names=tuple(names))

    def _require_whole(self) -> None:
        """Raises what `save` does where the memory is closed, or files of its folder were left out."""
        if self._inner()._folder is not None:
            self._opened().require_whole()

    def _save_folder(self, path: str | os.PathLike[str]) -> None:
        self._require_whole()
        inner = self._inner()
        index, stored = inner._on_cpu.index, inner._newest()  # in this order: the index holds nothing later
        names = inner._folder.manifest.names if inner._folder is not None else ()
        empty = Manifest(self._FORMAT.name, inner.dim, inner.normalize, inner.dtype, names=names)
        with contextlib.closing(Folder.made(path, empty)) as folder:
            publish(folder, stored, index)


def is_file_name(path: str | os.PathLike[str]) -> bool:
    """Whether `save` writes one file and not a folder."""
    return os.fsdecode(path).endswith(".safetensors")
