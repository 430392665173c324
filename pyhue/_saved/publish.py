"""Writing to a memory's folder: segments, removed rows, a plan, larger segments; each published whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue._saved import folder as folders
from pyhue._saved.deleted import write_deleted
from pyhue._saved.folder import Folder
from pyhue._saved.manifest import Entry, Manifest
from pyhue._saved.packed import pack, write_packed, write_plan
from pyhue._saved.segments import open_segment, write_segment
from pyhue._search.clusters import Clusters
from pyhue._search.host import OPTIMIZE_FROM
from pyhue._search.index import Index
from pyhue._search.labelled import Labelled
from pyhue._search.optimize import Centroids, optimized
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored


def publish(folder: Folder, stored: Any, index: Index | None = None, replan: bool = False) -> Any:
    """Writes the rows that the folder does not have yet, and which were removed; returns all of it, mapped.

    Args:
        folder: opened for writing.
        stored: its rows, and some behind them.
        index: of a memory that is written whole: its plan is kept, if it was measured.
        replan: choose a plan anew, as is done where the folder has none and vectors are many, or cannot read
            the one it has.

    Raises:
        OSError: the disk is full, say: then nothing has changed.
    """
    folder.require_writable()
    folder.require_place()
    manifest = folder.manifest
    measured = index if index is not None and index.measured else None
    replan = replan or not _has_its_plan(folder)
    if not (folder.lacks(stored) or folder.fresh or replan):
        return folder.stored()
    with folder.busy.held(), _undone(folder):
        parts = _cut(stored, range(manifest.rows, len(stored)), measured)
        plan = folder.plan(manifest) if measured is None and not replan else None
        images = stored.num_images if isinstance(stored, Labelled) else 0
        new = replace(_with_segments(folder, manifest, stored, parts, plan), images=images)
        if folder.forgets(stored):
            new = replace(new, deleted=write_deleted(folder.path, new.next, stored), next=new.next + 1)
        mapped = folder.stored(new)
        if measured is not None:
            new = _pack_as(folder, new, mapped, measured)
        elif replan or (new.plan is None and mapped.num_findable >= OPTIMIZE_FROM):
            new = _pack_anew(folder, new, mapped)
        folder.publish(new)
    return mapped


def compact(folder: Folder, stored: Any, progress: Callable[[int], object]) -> tuple[Any, NDArray[np.int64]]:
    """Merges segments and leaves out what was removed.

    `stored` is all that the folder has. Returns what is stored then, and the new row of each, or -1.
    `progress` is called with how many vectors were gone through.
    """
    folder.require_writable()
    manifest = folder.manifest
    kept = ~stored.is_removed()
    numbers = np.where(kept, np.cumsum(kept) - 1, -1)
    with folder.busy.held(), _undone(folder):
        plan = folder.plan(manifest)
        entries: list[Entry] = []
        new = manifest
        for group in _groups(manifest, kept, _rows_of_segment(stored)):
            if isinstance(group, Entry):
                entries.append(group)
                progress(group.rows)
                continue
            rows = group.start + np.flatnonzero(kept[group.start : group.stop])
            size = _rows_of_segment(stored)
            for begin in range(0, len(rows), size):
                entries.append(write_segment(folder.path, new.next, stored, rows[begin : begin + size]))
                new = replace(new, next=new.next + 1)
                if plan is not None:
                    _pack_written(folder, manifest, entries[-1], plan)
                progress(entries[-1].rows)
        if tuple(entries) == manifest.segments:
            return stored, numbers
        renumbered = int(not kept.all())
        new = replace(new, segments=tuple(entries), deleted=None, epoch=new.epoch + renumbered)
        mapped = folder.stored(new)
        folder.publish(new)
    return mapped, numbers


@contextlib.contextmanager
def _undone(folder: Folder) -> Iterator[None]:
    """Removes files that were written where publishing them fails.

    The manifest on disk says which: it may be the new one, where it was replaced and could not be synced.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            folder.clean()
        raise


def _rows_of_segment(stored: Stored) -> int:
    return max(1, folders.SEGMENT_BYTES // (stored.dim * stored.array.itemsize))


def _cut(stored: Stored, rows: range, index: Index | None) -> list[range]:
    """Rows as segments; what an index has packed is one where it can be, so that it is written as it is."""
    found, begin, size = [], rows.start, _rows_of_segment(stored)
    first = index.pieces[0] if index is not None and index.pieces else None
    if first is not None and first.clustered and begin == 0 and first.end <= min(size, rows.stop):
        begin = first.end
        found.append(range(begin))
    found += [range(first, min(first + size, rows.stop)) for first in range(begin, rows.stop, size)]
    return [each for each in found if each]


def _with_segments(
    folder: Folder, manifest: Manifest, stored: Stored, parts: list[range], plan: Index | None
) -> Manifest:
    """With segments of these rows and, where there is a plan, their packed form: packing beside writing."""
    entries, written = [], []
    with ThreadPoolExecutor(1) as disk:
        for number, rows in enumerate(parts, manifest.next):
            writing = disk.submit(write_segment, folder.path, number, stored, rows)
            piece = None if plan is None else pack(plan, stored, rows)
            entries.append(writing.result())  # which comes after what was packed before it
            if piece is not None:
                assert manifest.plan is not None
                of_plan = manifest.plan.number
                written.append(disk.submit(write_packed, folder.path, entries[-1], of_plan, piece))
        for each in written:
            each.result()
    return replace(
        manifest,
        segments=(*manifest.segments, *entries),
        next=manifest.next + len(entries),
    )


def _pack_anew(folder: Folder, manifest: Manifest, mapped: Any) -> Manifest:
    """With a plan that is chosen by measurement."""
    planned = replace(manifest, plan=Entry(manifest.next, 0, ""), next=manifest.next + 1)

    def packed(stored: Stored, plan: Plan, centroids: Centroids | None) -> Index:
        clusters = None if centroids is None else Clusters.without_rows(centroids)
        index = Index.of(plan, clusters, {}, (), stored.epoch)
        return _write_pieces(folder, planned, mapped, index)

    return _with_plan(folder, planned, optimized(mapped, mapped.groups, packed))


def _pack_as(folder: Folder, manifest: Manifest, mapped: Any, index: Index) -> Manifest:
    """With the plan of an index, and its pieces where they are those of segments."""
    planned = replace(manifest, plan=Entry(manifest.next, 0, ""), next=manifest.next + 1)
    _write_pieces(folder, planned, mapped, index)
    return _with_plan(folder, planned, index)


def _pack_written(folder: Folder, manifest: Manifest, entry: Entry, plan: Index) -> None:
    """A segment that was just written, by the folder's plan."""
    assert manifest.plan is not None
    segment = open_segment(folder.path, manifest, entry)
    piece = pack(plan, Stored(segment.vectors, segment.zero), range(entry.rows))
    write_packed(folder.path, entry, manifest.plan.number, piece)


def _has_its_plan(folder: Folder) -> bool:
    """Whether the plan that the folder names, if it does, can be read."""
    try:
        folder.plan(folder.manifest)
    except (OSError, ValueError):
        return False
    return True


def _write_pieces(folder: Folder, manifest: Manifest, mapped: Any, index: Index) -> Index:
    assert manifest.plan is not None
    there = {(piece.begin, piece.end): piece for piece in index.pieces}
    for entry, rows in manifest.ranges():
        piece = there.get((rows.start, rows.stop)) or pack(index, mapped, rows)
        if piece.clustered != (index.clusters is not None):
            piece = pack(index, mapped, rows)
        write_packed(folder.path, entry, manifest.plan.number, piece)
        del piece
    ranges = manifest.ranges()
    return index.with_pieces(folder.piece(manifest, index, mapped, entry, rows) for entry, rows in ranges)


def _with_plan(folder: Folder, manifest: Manifest, index: Index) -> Manifest:
    assert manifest.plan is not None
    return replace(manifest, plan=write_plan(folder.path, manifest.plan.number, index))


def _groups(manifest: Manifest, kept: NDArray[np.bool_], size: int) -> Iterator[Entry | range]:
    """Segments that stay as they are, and rows between them that are written anew."""
    waiting: list[tuple[Entry, range]] = []
    for entry, rows in [*manifest.ranges(), (None, range(0))]:
        whole = entry is not None and bool(kept[rows.start : rows.stop].all())
        if entry is not None and not (whole and len(rows) >= size // 2):
            waiting.append((entry, rows))
            continue
        if len(waiting) == 1 and kept[waiting[0][1].start : waiting[0][1].stop].all():
            yield waiting[0][0]
        elif waiting:
            yield range(waiting[0][1].start, waiting[-1][1].stop)
        waiting = []
        if entry is not None:
            yield entry
