"""The manifest of a memory's folder: what belongs to it. It alone decides, and is replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyhue._files.atomic import write_atomically
from pyhue._files.reading import reading, require_fit
from pyhue._files.sealed import seal, sealed

NAME = "manifest.json"
LOCK = "lock"
_VERSION = 1
_LARGEST = 1 << 40  # rows, images, files
#: Every file but the manifest and the lock: what it is, and its numbers.
_FILES = re.compile(r"((segment|plan|deleted)-(\d{1,13})|packed-(\d{1,13})-(\d{1,13}))\.safetensors")


@dataclass(frozen=True)
class Entry:
    """A file of the folder."""

    number: int  #: in its name
    rows: int  #: of the memory that it holds; 0 for a plan
    checksum: str  #: its seal


@dataclass(frozen=True)
class Manifest:
    """What a folder holds. Rows are numbered through its segments, in their order."""

    kind: str  #: name of the memory's `pyhue._saved.memory.Format`
    dim: int
    normalize: bool
    dtype: str  #: "float32" or "bfloat16"
    images: int = 0  #: how many were added; 0 for vectors without images
    generation: int = 0  #: how often a manifest was written
    epoch: int = 0  #: how often rows were given other numbers
    next: int = 1  #: number of the next file: none is used twice
    plan: Entry | None = None
    segments: tuple[Entry, ...] = ()
    deleted: Entry | None = None
    names: tuple[str, ...] = ()  #: of classes 0 and on, where `pyhue memory build` knew them

    @property
    def rows(self) -> int:
        """Of all segments."""
        return sum(entry.rows for entry in self.segments)

    def ranges(self) -> Iterator[tuple[Entry, range]]:
        """Segments and their rows."""
        begin = 0
        for entry in self.segments:
            yield entry, range(begin, begin + entry.rows)
            begin += entry.rows

    def files(self) -> set[str]:
        """Names of the files that belong to it, those of the packed form included."""
        names = {segment_name(entry) for entry in self.segments}
        if self.plan:
            names |= {plan_name(self.plan.number)}
            names |= {packed_name(entry.number, self.plan.number) for entry in self.segments}
        return names | ({deleted_name(self.deleted.number)} if self.deleted else set())


def segment_name(entry: Entry) -> str:
    """Vectors and labels."""
    return f"segment-{entry.number}.safetensors"


def plan_name(number: int) -> str:
    """How vectors are packed."""
    return f"plan-{number}.safetensors"


def packed_name(segment: int, plan: int) -> str:
    """A segment, packed by a plan."""
    return f"packed-{segment}-{plan}.safetensors"


def deleted_name(number: int) -> str:
    """Rows that are gone."""
    return f"deleted-{number}.safetensors"


def read(folder: Path) -> Manifest:
    """Reads and checks the manifest of a folder.

    Raises:
        OSError: there is none, or it cannot be read; it names the file.
        ValueError: it is damaged, foreign or of another version; it names the file.
    """
    path = folder / NAME
    text = path.read_bytes()
    with reading(path, "the manifest of a memory"):
        try:
            seal(text)
        except ValueError as error:
            raise ValueError(f"damaged: {error}") from error
        return _checked(json.loads(text))


def write(folder: Path, manifest: Manifest) -> Manifest:
    """Replaces the manifest by one that follows; returns it."""
    written = replace(manifest, generation=manifest.generation + 1)
    content = {"checksum": "00000000", "format": "pyhue.folder", "version": _VERSION} | asdict(written)
    write_atomically(folder / NAME, sealed(json.dumps(content, indent=1).encode()))
    return written


def remove_others(folder: Path, manifest: Manifest | None) -> None:
    """Removes files of a memory that the manifest does not name, and what killed writers left."""
    named = manifest.files() if manifest else set()
    for name in os.listdir(folder):
        left = name.startswith(".") and name.endswith(".tmp")
        if left or (_FILES.fullmatch(name) and name not in named):
            (folder / name).unlink(missing_ok=True)


def bytes_in(folder: Path) -> int:
    """Of all files there; those that others write or remove meanwhile may be left out."""
    size = 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            size += os.path.getsize(folder / name)
    return size


def unused(folder: Path) -> int:
    """A number above those of all files there."""
    found = map(_FILES.fullmatch, os.listdir(folder))
    return 1 + max((int(part) for match in found if match for part in match.groups()[2:] if part), default=0)


def is_memory(folder: Path) -> bool:
    """Whether a folder holds a memory, or nothing but what an interrupted `save` left."""
    names = os.listdir(folder)
    return NAME in names or all(
        name == LOCK or _FILES.fullmatch(name) or (name.startswith(".") and name.endswith(".tmp"))
        for name in names
    )


def _checked(content: Any) -> Manifest:
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {type(content).__name__}")
    found = (content.get("format"), content.get("version"))
    if found != ("pyhue.folder", _VERSION):
        raise ValueError(f"expected pyhue.folder, version {_VERSION}, got {found[0]}, version {found[1]}")
    hints = {
        "kind": str,
        "dim": int,
        "normalize": bool,
        "dtype": str,
        "images": int,
        "generation": int,
        "epoch": int,
        "next": int,
        "segments": list[dict],  # type: ignore[type-arg]
        "plan": dict | None,
        "deleted": dict | None,
        "names": list[str],
    }
    content = {"names": []} | content
    if missing := set(hints) - set(content):
        raise ValueError(f"expected {', '.join(sorted(missing))}")
    require_fit(content, hints)
    values = {name: content[name] for name in hints}
    values["names"] = tuple(content["names"])
    values["segments"] = tuple(map(_entry, content["segments"]))
    for name in ("plan", "deleted"):
        values[name] = None if content[name] is None else _entry(content[name])
    manifest = Manifest(**values)
    if not 1 <= manifest.dim <= 4096 or manifest.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"expected dim from 1 to 4096 and a dtype, got {manifest.dim}, {manifest.dtype!r}")
    counts = (manifest.images, manifest.generation, manifest.epoch, manifest.next, manifest.rows)
    if not all(0 <= count <= _LARGEST for count in counts):
        raise ValueError(f"expected counts from 0 to {_LARGEST}")
    numbers = [entry.number for entry in manifest.segments]
    if len(set(numbers)) != len(numbers) or max(numbers, default=0) >= manifest.next:
        raise ValueError("expected each segment once")
    return manifest


def _entry(content: dict[str, Any]) -> Entry:
    hints = {"number": int, "rows": int, "checksum": str}
    if set(content) != set(hints):
        raise ValueError(f"expected {', '.join(hints)} of a file, got {', '.join(map(str, content))}")
    require_fit(content, hints)
    entry = Entry(**content)
    if not (1 <= entry.number <= _LARGEST and 0 <= entry.rows <= _LARGEST):
        raise ValueError(f"expected a file's number and rows from 0 to {_LARGEST}, got {entry}")
    return entry
