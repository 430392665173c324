"""Segments of a memory's folder as one memory's vectors, which stay where they are mapped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyhue._saved.manifest import Manifest
from pyhue._saved.memory import PIXELS
from pyhue._saved.segments import Segment
from pyhue._search.chunked import ChunkedArray
from pyhue._search.labelled import Labelled
from pyhue._search.stored import Stored


def joined(manifest: Manifest, segments: list[Segment]) -> Stored:
    """What is in a manifest's segments, one behind the other; what was removed included."""
    dtype = np.float32 if manifest.dtype == "float32" else np.uint16
    tail = np.empty((0, manifest.dim), dtype)
    array = ChunkedArray([segment.vectors for segment in segments] or [tail])
    none = [np.empty(0, np.int64)]
    zero = [segment.zero + start for segment, start in zip(segments, array.starts, strict=False)]
    hidden = np.concatenate(none + zero)
    if manifest.kind != PIXELS.name:
        return Stored(array, hidden, epoch=manifest.epoch)
    columns = {
        name: ChunkedArray([segment.columns[name] for segment in segments] or none) for name in PIXELS.columns
    }
    classes, counts = _class_counts(segments)
    return Labelled(
        array,
        hidden,
        epoch=manifest.epoch,
        labels=columns["labels"],
        images=columns["images"],
        pixels=columns["pixels"],
        classes=classes,
        class_counts=counts,
        num_images=manifest.images,
    )


def _class_counts(segments: list[Segment]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes of all segments, ascending, and how many vectors of each have a direction; read-only."""
    classes = np.unique(np.concatenate([np.empty(0, np.int64), *(segment.classes for segment in segments)]))
    counts = np.zeros(len(classes), np.int64)
    for segment in segments:
        counts[np.searchsorted(classes, segment.classes)] += segment.class_counts
    for each in (classes, counts):
        each.flags.writeable = False
    return classes, counts
