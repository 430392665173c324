"""Reading all of a memory's folder to find what is damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from pyhue._files.mapped import open_mapped
from pyhue._saved import deleted
from pyhue._saved import manifest as manifests
from pyhue._saved.folder import Folder
from pyhue._saved.manifest import Entry, Manifest
from pyhue._saved.packed import PACKED, PLAN
from pyhue._saved.segments import WHAT


def check(folder: Folder, progress: Callable[[int], object]) -> list[str]:
    """What is wrong with which file; damaged packed forms are made anew where the folder may be written.

    What the manifest of the moment names is read, and again what a later one does, until there is none.
    """
    manifest, _ = _now(folder)
    found: dict[str, list[str]] = {}
    while True:
        for name, what, expected in _files(manifest):
            if name not in found:
                found[name] = _damage(folder, name, what, expected, progress)
        now, wrong = _now(folder)
        if now.generation == manifest.generation:
            break
        manifest = now
    folder.require_place()  # else it was another one that was read
    packed = _packed(manifest)
    wrong += [line for name, *_ in _files(manifest) if name not in packed for line in found[name]]
    remade = folder.writable and not wrong  # what is packed from damaged files is not made anew
    for name, (entry, rows) in packed.items():
        if found[name] and remade:
            folder.repack(entry, rows)
            found[name] = [f"{found[name][0]}; made anew"]
        wrong += found[name]
    return wrong


def total_bytes(folder: Folder) -> int:
    """Bytes that `check` reads."""
    there = folder.manifest.files() & set(os.listdir(folder.path))
    return sum(os.path.getsize(folder.path / name) for name in there)


def _now(folder: Folder) -> tuple[Manifest, list[str]]:
    """The manifest of the moment; in the place of a damaged one that which was opened, and what is wrong."""
    try:
        return manifests.read(folder.path), []
    except (OSError, ValueError) as error:
        return folder.manifest, [str(error)]


def _files(manifest: Manifest) -> Iterator[tuple[str, str, str | None]]:
    """Names, what they are, and the checksums that are known."""
    for entry in manifest.segments:
        yield manifests.segment_name(entry), WHAT, entry.checksum
    if gone := manifest.deleted:
        yield manifests.deleted_name(gone.number), deleted.WHAT, gone.checksum
    if plan := manifest.plan:
        yield manifests.plan_name(plan.number), PLAN, plan.checksum
    for name in _packed(manifest):
        yield name, PACKED, None


def _packed(manifest: Manifest) -> dict[str, tuple[Entry, range]]:
    """Packed files, and the segments that they are made from."""
    plan = manifest.plan
    if plan is None:
        return {}
    return {
        manifests.packed_name(entry.number, plan.number): (entry, rows) for entry, rows in manifest.ranges()
    }


def _damage(
    folder: Folder, name: str, what: str, expected: str | None, progress: Callable[[int], object]
) -> list[str]:
    path = folder.path / name
    try:
        file = open_mapped(path, what, expected)
        progress(min(file.starts.values()))  # of the header
        damaged = file.damaged(progress)
    except (OSError, ValueError) as error:
        return [str(error)]
    return [f"{path}: damaged: {', '.join(damaged)}"] if damaged else []
