"""How far a search has to look for a recall, as stored vectors that played the queries showed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARES = 50  #: steps that shares of the vectors are counted in
LARGEST_SHARE = 0.25  # of the vectors that may be visited: beyond, the exact search is as fast; measured
_GROUPS = 10  # of the queries that were measured, by how far their neighbours are
_LEAST = 10  # queries in a group


@dataclass(frozen=True, eq=False)
class Reach:
    """What was measured of queries whose true neighbours are known.

    A cluster's gap is how much farther it is from a query than the nearest one (`Clusters.gaps`). How large
    the gaps are within which a query's neighbours lie depends on how far these are. So each query first looks
    into a few clusters (`visit.py`), and the k-th distance there tells with which of the measured queries it
    is to be compared. One that is farther from its neighbours than all that were measured looks everywhere.
    """

    near: NDArray[np.float32]  #: (queries, k) distances of the k nearest in the first clusters; +inf: fewer
    gaps: NDArray[np.float64]  #: (queries, k) of the clusters of the k true neighbours
    spread: NDArray[np.float64]  #: (queries, SHARES + 1) the gap up to which such a share of the vectors lies

    @property
    def most(self) -> int:
        """The largest k that was measured."""
        return int(self.gaps.shape[1])

    def limits(self, near: NDArray[np.float32], k: int, recall: float) -> NDArray[np.float64]:
        """The largest gap for queries whose k-th distance in the first clusters is `near` (n,).

        Raises:
            ValueError: that was not measured, or needs so many vectors that it does not pay.
        """
        edges, limits = self._table(k, recall)
        share = self.share(k, recall)
        if share > LARGEST_SHARE:
            raise ValueError(
                f"recall: {recall:g} of {k} neighbours would take {share:.0%} of the vectors here, "
                "for which the exact search is as fast: leave it out, or ask for less"
            )
        found: NDArray[np.float64] = limits[np.searchsorted(edges, near)]
        return found

    def share(self, k: int, recall: float) -> float:
        """Of all vectors, those that the measured queries look at."""
        edges, limits = self._table(k, recall)
        own = limits[np.searchsorted(edges, self.near[:, k - 1])]
        return float((self.spread[:, 1:] <= own[:, None]).mean())

    def part(self, which: NDArray[np.bool_]) -> Reach:
        """Of some of the queries."""
        return Reach(self.near[which], self.gaps[which], self.spread[which])

    def _table(self, k: int, recall: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Groups of queries up to some k-th distance, ascending, and the limit of each; +inf beyond."""
        if k > self.most:
            raise ValueError(f"k: expected at most {self.most} with a recall, got {k}")
        order = np.argsort(self.near[:, k - 1], kind="stable")
        order = order[np.isfinite(self.near[order, k - 1])]
        if len(order) < max(_GROUPS * _LEAST, len(self.near) // 2):
            raise ValueError(f"recall: the clusters of this memory are too small for k={k}")
        groups = np.array_split(order, _GROUPS)
        edges = np.array([self.near[group[-1], k - 1] for group in groups])
        limits = [_quantile(self.gaps[group, :k], recall) for group in groups]
        return edges, np.append(np.maximum.accumulate(limits), np.inf)


def _quantile(values: NDArray[np.float64], share: float) -> float:
    """The least of the values that at least such a share of them does not exceed."""
    return float(np.sort(values, axis=None)[max(0, int(np.ceil(share * values.size)) - 1)])
