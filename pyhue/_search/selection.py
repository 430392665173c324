"""Which of a memory's vectors a search may find: `where=`, `labels=` and `exclude=`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._arrays import integers, to_numpy
from pyhue._search.labelled import Labelled
from pyhue._search.stored import Stored

# Costs of a pair of a query and a vector, where filters of all cost 1; and of packing a vector. Measured.
_COMPARED = 32
_SCREENED, _PACKED = 2, 600


@dataclass(frozen=True, eq=False)
class Selection:
    """What the caller of a search asks for; removed vectors are never found, whatever it says."""

    where: NDArray[np.bool_] | None = None  #: of the memory's first rows; those behind are left out
    labels: NDArray[np.int64] | None = None  #: classes that may be found
    exclude: NDArray[np.int64] | None = None  #: of each query: the group (`Stored.groups`) that it leaves out

    def of_queries(self, shape: Sequence[int]) -> Selection:
        """With `exclude` for each of the queries, which have this shape, one after the other.

        Raises:
            ValueError: `exclude` has not the first of their dimensions, where they have any.
        """
        if self.exclude is None:
            return self
        given, size = self.exclude.shape, tuple(shape)
        if given != size[: len(given)] or (size and not given):
            raise ValueError(f"exclude: expected shape {size} of the queries, or its begin, got {given}")
        each = int(np.prod(size[len(given) :]))
        return replace(self, exclude=np.repeat(self.exclude.ravel(), each))

    def of_some(self, queries: slice) -> Selection:
        """Of some of the queries."""
        return self if self.exclude is None else replace(self, exclude=self.exclude[queries])

    def of_pixels(self, pixels: int) -> Selection:
        """With `exclude` for each of so many pixels of each query."""
        return self if self.exclude is None else replace(self, exclude=np.repeat(self.exclude, pixels))

    @property
    def narrows(self) -> bool:
        """Whether it leaves some of the rows, the same for all queries."""
        return self.where is not None or self.labels is not None

    def mask(self, stored: Stored) -> NDArray[np.bool_]:
        """(n,) the rows that `where` and `labels` leave; hidden and removed ones may be among them."""
        mask = np.ones(len(stored), bool)
        if self.where is not None:
            if len(self.where) > len(stored):
                raise ValueError(
                    f"where: expected at most {len(stored)} values, one for each row, got {len(self.where)}"
                )
            mask[: len(self.where)] = self.where
            mask[len(self.where) :] = False
        if self.labels is not None:
            assert isinstance(stored, Labelled)
            mask &= np.isin(stored.labels, self.labels)
        return mask

    def few(self, stored: Stored, queries: int) -> NDArray[np.int64] | None:
        """The rows that `where` and `labels` leave, if so few that searching them alone costs less."""
        if not self.narrows:
            return None
        mask = self.mask(stored)
        if not is_few(int(np.count_nonzero(mask)), len(stored), queries):
            return None
        mask[stored.hidden] = False
        return np.flatnonzero(mask)

    def chosen(self, stored: Stored, rows: NDArray[np.int64] | None) -> _core.Chosen | None:
        """What `_core.search` takes; `rows`: what `few` returned."""
        left_out: NDArray[np.uint8] | None = stored.removed if len(stored.removed) else None
        if self.narrows and rows is None:
            left_out = np.packbits(~self.mask(stored), bitorder="little")
            left_out[: len(stored.removed)] |= stored.removed
        if self.exclude is not None:
            return _core.Chosen(left_out, stored.groups, self.exclude)
        return None if left_out is None else _core.Chosen(left_out, None, None)

    def class_counts(self, stored: Labelled) -> NDArray[np.int64]:
        """How many vectors of each class can be found: (classes,); (queries, classes) with `exclude`."""
        counts = stored.class_counts
        if self.narrows:
            counts = stored.counts_of(np.flatnonzero(self.mask(stored)))
        if self.exclude is None:
            return counts
        groups, which = np.unique(self.exclude, return_inverse=True)
        rows = np.flatnonzero(np.isin(stored.groups, groups))
        if self.narrows:
            rows = rows[self.mask(stored)[rows]]
        own = np.searchsorted(groups, stored.groups[rows])
        excluded = [stored.counts_of(rows[own == group]) for group in range(len(groups))]
        of_each: NDArray[np.int64] = counts - np.array(excluded, np.int64).reshape(-1, len(counts))[which]
        return of_each


EVERYTHING = Selection()


def pays_to_pack(queries: int) -> bool:
    """Whether packing a few vectors for a search of so many queries costs less than comparing them."""
    return _PACKED + _SCREENED * queries < _COMPARED * queries


def is_few(left: int, stored: int, queries: int) -> bool:
    """Whether searching what is left of so many vectors alone costs less than filters of all."""
    each = _PACKED + _SCREENED * queries if pays_to_pack(queries) else _COMPARED * queries
    return left * each <= stored * queries


def selection(where: Any, exclude: Any, groups: int, labels: Any = None) -> Selection:
    """What arguments of these names ask for.

    Args:
        where: bool (n,), or None.
        exclude: integers, -1 for none, or None.
        groups: how many there are, to be excluded.
        labels: integers, or None.

    Raises:
        TypeError, ValueError: an argument is of another dtype, or a group is not there.
    """
    mask = allowed = excluded = None
    if where is not None:
        mask = to_numpy(where, "where")
        if mask.dtype != np.bool_ or mask.ndim != 1:
            raise TypeError(
                f"where: expected booleans of one dimension, got {mask.dtype} of {mask.ndim} dimensions"
            )
    if labels is not None:
        allowed = integers(labels, "labels").ravel()
    if exclude is not None:
        excluded = integers(exclude, "exclude")
        if excluded.size and not -1 <= excluded.min() <= excluded.max() < groups:
            raise ValueError(
                f"exclude: expected -1 to {groups - 1}, got {excluded.min()} to {excluded.max()}"
            )
    if mask is None and allowed is None and excluded is None:
        return EVERYTHING
    return Selection(mask, allowed, excluded)


def numbers_below(value: Any, name: str, end: int) -> NDArray[np.int64]:
    """Integers of any shape, one after the other.

    Raises:
        TypeError, ValueError: there are none but integers from 0 to `end` - 1.
    """
    numbers = integers(value, name).ravel()
    if numbers.size and not end:
        raise ValueError(f"{name}: expected none, there are none in the memory, got {numbers.min()}")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < end:
        raise ValueError(f"{name}: expected 0 to {end - 1}, got {numbers.min()} to {numbers.max()}")
    return numbers


def largest_radius(radius: Any) -> float:
    """The largest float32 that is not above `radius`.

    Raises:
        TypeError, ValueError: it is no number of at least 0.
    """
    if isinstance(radius, bool) or not isinstance(radius, (int, float, np.integer, np.floating)):
        raise TypeError(f"radius: expected a number, got {type(radius).__name__}")
    if not radius >= 0:
        raise ValueError(f"radius: expected at least 0, got {radius}")
    if isinstance(radius, int):
        radius = min(radius, 1 << 128)  # beyond float32 already; larger ones have no float
    with np.errstate(over="ignore"):
        single = np.float32(radius)
    return float(np.nextafter(single, np.float32(0)) if float(single) > radius else single)
