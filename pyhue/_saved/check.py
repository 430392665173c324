"""Reading all of a memory's folder to find what is damaged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from pyhue._files.mapped import open_mapped
from pyhue._saved import deleted
from pyhue._saved import manifest as manifests
from pyhue._saved.folder import Folder
from pyhue._saved.packed import PACKED, PLAN
from pyhue._saved.segments import WHAT


def check(folder: Folder, progress: Callable[[int], object]) -> list[str]:
    """What is wrong with which file; damaged packed forms are made anew where the folder may be written."""
    wrong, manifest = [], folder.manifest
    plan = manifest.plan
    for entry in manifest.segments:
        wrong += _damage(folder, manifests.segment_name(entry), WHAT, entry.checksum, progress)
    if gone := manifest.deleted:
        name = manifests.deleted_name(gone.number)
        wrong += _damage(folder, name, deleted.WHAT, gone.checksum, progress)
    if plan is not None:
        wrong += _damage(folder, manifests.plan_name(plan.number), PLAN, plan.checksum, progress)
    if plan is None or wrong:
        return wrong  # what is packed from them is not made anew
    for entry, rows in manifest.ranges():
        name = manifests.packed_name(entry.number, plan.number)
        damage = _damage(folder, name, PACKED, None, progress)
        if damage and folder.writable:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(folder.path / name)
            folder.repack(entry, rows)
            damage = [f"{damage[0]}; made anew"]
        wrong += damage
    return wrong


def total_bytes(folder: Folder) -> int:
    """Bytes that `check` reads, about."""
    there = folder.manifest.files() & set(os.listdir(folder.path))
    return sum(os.path.getsize(folder.path / name) for name in there)


def _damage(
    folder: Folder, name: str, what: str, expected: str | None, progress: Callable[[int], object]
) -> list[str]:
    path = folder.path / name
    try:
        damaged = open_mapped(path, what, expected).damaged(progress)
    except (OSError, ValueError) as error:
        return [str(error)]
    return [f"{path}: damaged: {', '.join(damaged)}"] if damaged else []
