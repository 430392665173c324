"""The packed form of segments and the plan that they are packed by, on disk. All of it can be made anew."""

from __future__ import annotations

from pathlib import Path

from pyhue import _core
from pyhue._files.mapped import open_mapped, save_mapped
from pyhue._files.reading import reading
from pyhue._files.tensors import TensorFile
from pyhue._saved.manifest import Entry, Manifest, packed_name, plan_name
from pyhue._saved.plan import REACH, plan_arrays, to_plan
from pyhue._search.clustering import assigned
from pyhue._search.index import Index
from pyhue._search.packed import ARRAYS, PackedPiece, packed
from pyhue._search.stored import Stored

PLAN, PACKED = "plan of a memory", "packed form of a segment"
_PLAN_FORMAT = {"format": "pyhue.plan", "version": "1"}


def write_plan(folder: Path, number: int, index: Index) -> Entry:
    """Writes the plan of an index, its clusters and what was measured of it."""
    arrays, numbers = plan_arrays(index)
    return Entry(number, 0, save_mapped(folder / plan_name(number), _PLAN_FORMAT | {"plan": numbers}, arrays))


def open_plan(folder: Path, plan: Entry) -> TensorFile:
    """Maps a plan; only its header is read.

    Raises:
        OSError, ValueError: it is not there, or damaged.
    """
    return open_mapped(folder / plan_name(plan.number), PLAN, plan.checksum)


def read_plan(file: TensorFile, manifest: Manifest) -> Index:
    """An index of no rows by the plan that the manifest names.

    Raises:
        ValueError: it is damaged.
    """
    arrays = {name: file.array(name).copy() for name in file.layout if name in _PLAN_ARRAYS}
    with reading(file.path, f"a whole {PLAN}"):
        if damaged := file.damaged():
            raise ValueError(f"damaged: {', '.join(damaged)}")
        numbers = file.metadata.get("plan", "")
        plan, clusters, measured, reach = to_plan(manifest.dim, arrays, numbers, file.path)
    return Index.of(plan, clusters, measured, (), manifest.epoch, reach)


def pack(index: Index, stored: Stored, rows: range) -> PackedPiece:
    """Rows of one chunk, packed by the plan of an index, in the order of its clusters."""
    if index.clusters is None:
        order, starts = stored.findable(rows.start, rows.stop), None
    else:
        order, starts = assigned(stored, index.plan, index.clusters.centroids, rows)
    return packed(stored, index.plan, rows, order, starts)


def write_packed(folder: Path, segment: Entry, plan: int, piece: PackedPiece) -> None:
    """Writes the packed form of a segment."""
    arrays = {name: array for name, array in zip(ARRAYS, piece.arrays, strict=True) if array is not None}
    save_mapped(folder / packed_name(segment.number, plan), _format(segment), arrays)


def open_packed(folder: Path, segment: Entry, plan: Entry, scattered: bool = False) -> TensorFile:
    """Maps the packed form of a segment; only its header is read.

    `scattered`: of what the second filter reads, what it asks for is read, and not what is around it.

    Raises:
        OSError, ValueError: it is not there, or damaged.
    """
    file = open_mapped(folder / packed_name(segment.number, plan.number), PACKED)
    for name in {"rows", "row_bounds"} & set(file.layout) if scattered else ():
        file.scattered(name)
    return file


def read_packed(file: TensorFile, entry: Entry, index: Index, begin: int) -> PackedPiece:
    """The packed form of a segment whose rows begin at `begin`.

    Raises:
        ValueError: it is damaged, of another version, or does not fit.
    """
    with reading(file.path, f"a whole {PACKED}"):
        expected = _format(entry)
        if {name: file.metadata.get(name) for name in expected} != expected:
            raise ValueError(f"expected {expected}")
        arrays = {name: file.array(name) if name in file.layout else None for name in ARRAYS}
        piece = PackedPiece(begin, begin + entry.rows, index.plan.layout, tuple(arrays.values()))
        order, starts = arrays["order"], arrays["cluster_starts"]
        if order is not None and order.max(initial=-1) >= entry.rows:
            raise ValueError(f"expected rows below {entry.rows}")
        clusters = None if index.clusters is None else len(index.clusters.centroids)
        if clusters != (None if starts is None else len(starts) - 1):
            raise ValueError("expected the clusters of the plan")
    return piece


_PLAN_ARRAYS = ("center", "rotation", "steps", "centroids", *REACH)


def _format(segment: Entry) -> dict[str, str]:
    return {
        "format": "pyhue.packed",
        "version": str(_core.packed_version),
        "rows": str(segment.rows),
        "segment": segment.checksum,
    }
