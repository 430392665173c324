"""A file of known size that is written piece by piece and survives being killed at any time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pyhue._files.atomic import beside, make_folder, mode_of, naming, replacing, sync
from pyhue._files.reading import reading, require_fit
from pyhue._text import printable


class ResumableFile:
    """Writes `path`, which appears when it is whole, or goes on with what a killed process left.

    The pieces go to `path` + ".part". How much of it is on disk, and what it is made from, stands in
    `path` + ".part.json", which is replaced as a whole after every piece.

    Attributes:
        done: bytes behind the header that are on disk.

    Args:
        path: the file; behind a symbolic link, its target.
        source: what it is made from, a JSON object: a rest of something else is refused.
        header: what the file begins with; holds `source`, so that a whole file says what it was made from.
        size: bytes that follow.

    Raises:
        OSError: there is no room for the whole file, or it cannot be written; it names `path`, or
            what above it is no folder.
        ValueError: `path` exists with another header, or the rest of another run is in the way.
    """

    def __init__(self, path: str | os.PathLike[str], source: dict[str, Any], header: bytes, size: int):
        self.path = Path(path)
        self.source, self.offset, self.size = source, len(header), size
        with naming(self.path):
            self.target = Path(os.path.realpath(self.path))
            self.part, self.note = (beside(self.target, ending) for ending in (".part", ".part.json"))
            if mode_of(self.target) is not None:
                with open(self.target, "rb") as file:
                    if file.read(len(header)) != header:
                        raise ValueError(f"{printable(self.path)}: exists already, made from something else")
                self.done = size
                return
            rest = self._rest(len(header) + size)
            if rest is None:
                self._begin(header)
            self.done = rest or 0
            self._write_note()

    def append(self, piece: bytes) -> None:
        """Writes the next bytes and notes them when they are on disk."""
        with naming(self.path):
            with open(self.part, "r+b") as file:
                file.seek(self.offset + self.done)
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            self.done += len(piece)
            self._write_note()

    def finish(self) -> None:
        """Gives the whole file its name."""
        with naming(self.path):
            if self.part.exists() and not self.target.exists():
                os.replace(self.part, self.target)
                sync(self.target.parent)
            self.note.unlink(missing_ok=True)

    def _begin(self, header: bytes) -> None:
        make_folder(self.part.parent)
        try:
            with open(self.part, "wb") as file:
                if sys.platform != "darwin":  # which has no such call
                    os.posix_fallocate(file.fileno(), 0, len(header) + self.size)  # a full disk shows now
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self.part.unlink(missing_ok=True)
            size = (len(header) + self.size) / 1e6
            raise OSError(error.errno, f"{error.strerror}: {size:,.0f} MB needed", str(self.path)) from error

    def _rest(self, whole: int) -> int | None:
        """Bytes that an earlier run noted as done; None without such a run."""
        if not (self.note.exists() and self.part.exists()):
            return None
        with reading(self.note, "the note of an unfinished file; delete it to start anew"):
            note = json.loads(self.note.read_text())
            require_fit(note, {"done": int, "source": dict})
            if not 0 <= note["done"] <= self.size:
                raise ValueError(f"done: expected 0 to {self.size}, got {note['done']}")
        if note["source"] != self.source:
            keys = [key for key in self.source if note["source"].get(key) != self.source[key]]
            raise ValueError(
                f"{printable(self.part)}: the rest of another run ({', '.join(keys)} differ); "
                "delete it to start anew"
            )
        return note["done"] if self.part.stat().st_size == whole else None

    def _write_note(self) -> None:
        with replacing(self.note, token="note") as file:
            file.write(json.dumps({"done": self.done, "source": self.source}).encode())
