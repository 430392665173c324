"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes a file so that at any moment, also after a crash, `path` is the old file or the new one.

    A temporary file in the same folder is written, synced and renamed; it is removed when that fails.

    Args:
        path: the file; its folder must be there.
        content: bytes, or text that is encoded as UTF-8; what names of files have that is not, is escaped.

    Raises:
        OSError: the disk is full, the folder is not there or cannot be written.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync(target.parent)  # the new name, too, has to reach the disk
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(target), None  # a full disk names no file by itself
        raise


def remove_temporaries(folder: Path) -> None:
    """Removes what `write_atomically` left in a folder when its process was killed."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Waits until the names of the files in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
