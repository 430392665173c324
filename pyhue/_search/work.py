"""What a search did, and how many queries it takes at once."""

from __future__ import annotations

from typing import NamedTuple


class Work(NamedTuple):
    """What a search did: pairs are of a query and a vector."""

    queries: int
    pairs: int  #: met by the first filter, or compared without it
    coordinates: int  #: that it read of them; all of those compared without it
    survivors: int  #: pairs left by it, or compared without it
    compared: int  #: pairs whose distance was computed

    def plus(self, other: Work) -> Work:
        """Both together."""
        return Work(*(a + b for a, b in zip(self, other, strict=True)))

    def shares(self, dim: int) -> dict[str, float]:
        """Of all coordinates and all pairs that were met."""
        pairs = max(1, self.pairs)
        return {
            "queries": self.queries,
            "dims_read": self.coordinates / (pairs * dim),
            "survivors": self.survivors / pairs,
            "compared": self.compared / pairs,
        }


def batches(count: int, most: int) -> list[slice]:
    """So many queries, at most `most` at once; where there are none, one batch of none."""
    return [slice(begin, begin + most) for begin in range(0, max(1, count), most)]
