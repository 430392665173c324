"""The vectors that a memory stores, as float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stored:
    """Read access in float32 to (n, dim) vectors stored as float32, or as bfloat16 in uint16."""

    def __init__(self, array: NDArray[Any]):
        self.array = array  #: what the kernels read

    def __len__(self) -> int:
        return len(self.array)

    @property
    def dim(self) -> int:
        """Channels of a vector."""
        return int(self.array.shape[1])

    def rows(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Some of the vectors, as float32."""
        part = self.array[which]
        return part if part.dtype == np.float32 else (part.astype(np.uint32) << 16).view(np.float32)

    def findable(self, begin: int, end: int) -> NDArray[np.int64]:
        """Those of the rows begin .. end - 1 that may be neighbours."""
        return np.arange(begin, end)

    def parts(self, size: int = 8192) -> Iterator[NDArray[np.float32]]:
        """All vectors, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))
