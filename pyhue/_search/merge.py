"""One answer from those of several parts of a memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAST = np.iinfo(np.int64).max


def merged_nearest(parts: Sequence[tuple[NDArray[Any], ...]], k: int) -> tuple[NDArray[Any], ...]:
    """The k nearest of all parts: distances, indices, and what else each tells of them, all (n, any).

    Ties go to the lower index; where there are fewer than k: distance +inf, index -1.
    """
    columns = [np.concatenate(column, axis=1) for column in zip(*parts, strict=True)]
    distances, indices = columns[:2]
    order = np.lexsort((np.where(indices < 0, _LAST, indices), distances))[:, :k]
    found = [np.take_along_axis(column, order, axis=1) for column in columns]
    width = ((0, 0), (0, k - order.shape[1]))
    return tuple(
        np.pad(column, width, constant_values=nothing)
        for column, nothing in zip(found, (np.inf, -1, *[0] * len(found)), strict=False)
    )


def merged_within(parts: Sequence[tuple[NDArray[Any], ...]]) -> tuple[NDArray[Any], ...]:
    """All that the parts found, query by query: limits (n + 1,), distances and indices."""
    limits = np.sum([part[0] for part in parts], axis=0)
    queries = np.concatenate([np.repeat(np.arange(len(limits) - 1), np.diff(part[0])) for part in parts])
    distances, indices = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    order = np.lexsort((indices, distances, queries))
    return limits, distances[order], indices[order]
