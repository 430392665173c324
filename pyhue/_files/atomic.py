"""Files that are whole or not there: the one place that writes and renames."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pyhue._files.lock import require_place

_LONGEST = 255  # bytes of a name in a folder, on every file system that matters
_SHOWN = 80  # bytes of a longer name that files beside it keep


@contextlib.contextmanager
def replacing(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes], token: str | None = None
) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` at the end of the block.

    At any moment, also after a crash, `path` is the old file or the new one: a temporary file in the same
    folder is written, synced and renamed, and removed when anything fails. Behind a symbolic link it is the
    link's target that is replaced. A file that was there keeps its mode; a new one gets that of the umask.

    Args:
        path: the file; its folder must be there.
        token: part of the temporary file's name. Where it is always the same, a writer that was killed leaves
            one file and not one after another; no two may write at once. Default: random.

    Raises:
        OSError: the disk is full, the folder is not there or cannot be written, or `path` is no regular
            file; or this process locked its folder, which was moved since. It names `path`, or what above it
            is no folder.
    """
    given = Path(os.fsdecode(path))
    with naming(given):
        target = Path(os.path.realpath(given))
        mode = mode_of(target)
        hidden = target.with_name(f".{target.name}")
        temporary = beside(hidden, f".{token or secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "wb" if token else "xb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)  # before there is anything to be read
                yield file
                file.flush()
                os.fsync(file.fileno())
            require_place(target.parent)  # a folder that was locked: another may be in its place
            os.replace(temporary, target)
            sync(target.parent)  # the new name, too, has to reach the disk
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replaces a file, as `replacing` does, by bytes or by text.

    Text is encoded as UTF-8; what names of files have that is not, is escaped.
    """
    with replacing(path) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has every OSError name `path`, or a file above it: none beside it, nor nothing, as of a full disk."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NotADirectoryError):
            require_folder(path.parent)
        error.filename = str(path)
        del error.filename2  # None would be shown
        raise


def require_folder(path: Path) -> None:
    """Raises NotADirectoryError where `path`, or what is above it, is there and no folder."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file, where a folder is needed", str(place))


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, where there is none.

    Raises:
        OSError: something else is there, or it cannot be made.
    """
    require_folder(path)
    path.mkdir(parents=True, exist_ok=True)


def mode_of(target: Path) -> int | None:
    """The permissions of a file; None where there is none.

    Raises:
        OSError: there can be none, links lead in a circle, or what is there is no regular file.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(mode):  # a device or a pipe: renaming would put a file in its place
        raise OSError(errno.EINVAL, "not a regular file", str(target))
    return stat.S_IMODE(mode)


def beside(path: Path, ending: str) -> Path:
    """`path` + `ending`; where names cannot be that long, a digest stands for the end of the name."""
    name = os.fsencode(path.name)
    if len(name) + len(ending) > _LONGEST:
        digest = hashlib.sha256(name).hexdigest()[:16]
        name = os.fsencode(name[:_SHOWN].decode(errors="ignore") + digest)
    return path.with_name(os.fsdecode(name) + ending)


def remove_temporaries(folder: Path) -> None:
    """Removes what `replacing` left in a folder when its process was killed."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Waits until the names of the files in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
