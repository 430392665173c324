"""Locks that belong to one memory, index or device."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any


class Lock:
    """A lock that is open in a forked process, where the thread that held it may not exist, and in a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock, ()

    @contextlib.contextmanager
    def held(self, wait: bool = True) -> Iterator[bool]:
        """Holds the lock; without waiting, says whether it does."""
        lock = self._lock
        holds = lock.acquire(blocking=wait)
        try:
            yield holds
        finally:
            if holds:
                lock.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _open_all() -> None:
    for lock in list(_locks):
        lock._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
