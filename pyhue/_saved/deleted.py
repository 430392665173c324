"""Rows of a memory on disk that were removed: bits, in a file that takes the place of the last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyhue._files.mapped import open_mapped, save_mapped
from pyhue._files.reading import reading
from pyhue._saved.manifest import Entry, Manifest, deleted_name
from pyhue._search.stored import Stored, rows_of

WHAT = "file of a memory's removed rows"
_FORMAT = {"format": "pyhue.deleted", "version": "1"}


def write_deleted(folder: Path, number: int, stored: Stored) -> Entry:
    """Writes which rows of a memory were removed."""
    arrays = {"removed": stored.removed}
    return Entry(number, stored.num_removed, save_mapped(folder / deleted_name(number), _FORMAT, arrays))


def read_deleted(folder: Path, manifest: Manifest, entry: Entry) -> NDArray[np.int64]:
    """The rows that were removed, ascending.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or another one than the manifest says; it names the file.
    """
    path = folder / deleted_name(entry.number)
    file = open_mapped(path, WHAT, entry.checksum)
    with reading(path, f"a whole {WHAT}"):
        if {name: file.metadata.get(name) for name in _FORMAT} != _FORMAT:
            raise ValueError(f"expected {_FORMAT}")
        dtype, shape = file.layout.get("removed", ("", ()))
        if dtype != "U8" or len(shape) != 1 or shape[0] > -(-manifest.rows // 8):
            raise ValueError(f"expected a bit for each of {manifest.rows} rows, got {dtype} {shape}")
        if damaged := file.damaged():
            raise ValueError(f"damaged: {', '.join(damaged)}")
        rows = rows_of(file.array("removed"))
        if len(rows) != entry.rows or rows.max(initial=-1) >= manifest.rows:
            raise ValueError(f"expected {entry.rows} of {manifest.rows} rows, got {len(rows)}")
    return rows
