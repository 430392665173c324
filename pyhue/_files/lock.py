"""A lock among processes that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from pathlib import Path


class FileLock:
    """Held from its making until `release`, the process's end, or, in a forked process, not at all.

    Raises:
        BlockingIOError: somebody else holds it, in this process or another; it names `path`.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path):
        import fcntl

        self._path = path
        self._handle: int | None = None  # where opening it fails
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._folder = os.stat(path.parent)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if isinstance(error, BlockingIOError):
                error.strerror = "somebody else writes there"
            error.filename = str(path)
            raise
        _held.add(self)

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._handle is not None

    def require_place(self) -> None:
        """Raises FileNotFoundError unless the file that is locked is where it was."""
        if self._handle is None:
            return
        folder = self._path.parent
        if not os.path.samestat(self._folder, os.stat(folder)):
            raise FileNotFoundError(errno.ENOENT, "it was moved, and another is in its place", str(folder))
        if not (self._path.exists() and os.path.samestat(os.fstat(self._handle), os.stat(self._path))):
            raise FileNotFoundError(
                errno.ENOENT, "it was removed, and others may write here now", str(self._path)
            )

    def release(self) -> None:
        """Gives it up."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)

    def __del__(self) -> None:
        self.release()


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def require_place(folder: Path) -> None:
    """Raises FileNotFoundError where this process locked a folder of this path that is not there any more."""
    for lock in list(_held):
        if lock._path.parent == folder:
            lock.require_place()


def _not_in_child() -> None:
    for lock in list(_held):  # what a child closes, its parent still holds
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_not_in_child)
