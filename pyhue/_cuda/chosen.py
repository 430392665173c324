"""Which vectors a search on a GPU may find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._cuda.pieces import Piece
from pyhue._cuda.stream import require_no_capture, wait_for
from pyhue._search.selection import EVERYTHING, Selection
from pyhue._search.stored import Stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Chosen(NamedTuple):
    """As `csrc/core/selection.h` has it, by the numbers of findable vectors."""

    left_out: Tensor | None = None  #: uint8, bits
    groups: Tensor | None = None  #: int64, of each vector
    excluded: Tensor | None = None  #: int64, of each query
    counts: Mapping[int, Tensor] = MappingProxyType({})  #: by the first vector of a piece: its `left`

    def of_some(self, queries: slice) -> Chosen:
        """Of some of the queries."""
        return self if self.excluded is None else self._replace(excluded=self.excluded[queries])

    def size(self, piece: Piece) -> int:
        """How many vectors of a piece may be found; what `exclude` leaves out is not counted."""
        counts = self.counts.get(piece.first)
        return piece.size if counts is None else int(counts[-1])

    def pieces(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Those that have any."""
        return [piece for piece in pieces if self.size(piece)]


EVERY = Chosen()


class DeviceChoices:
    """Copies what searches may find to a GPU; what the next search asks for too is kept there."""

    def __init__(self, device: torch.device):
        self._device = device
        self._removed: tuple[NDArray[np.uint8], int] | None = None  # and how many rows: what `_left` is of
        self._left = EVERY
        self._groups: Tensor | None = None

    def chosen(self, stored: Stored, selection: Selection, pieces: Iterable[Piece]) -> Chosen:
        """Of `stored`, all of whose vectors are in these pieces."""
        import torch

        if selection is not EVERYTHING:
            require_no_capture(
                self._device, "where, labels, exclude: a CUDA graph cannot hold what they choose"
            )
        found = self._chosen(stored, selection, pieces) if selection.narrows else self._all(stored, pieces)
        if selection.exclude is None:
            return found
        excluded = torch.from_numpy(selection.exclude).to(self._device)
        return found._replace(groups=self._groups_of(stored), excluded=excluded)

    def _all(self, stored: Stored, pieces: Iterable[Piece]) -> Chosen:
        """All but those that were removed."""
        if not len(stored.removed):
            return EVERY
        known = self._removed
        if known is None or known[0] is not stored.removed or known[1] != len(stored):
            require_no_capture(self._device)
            wait_for(self._device)  # searches may be reading what goes away
            self._left = self._chosen(stored, EVERYTHING, pieces)
            self._removed = stored.removed, len(stored)
            wait_for(self._device)  # whatever stream searches next
        return self._left

    def _chosen(self, stored: Stored, selection: Selection, pieces: Iterable[Piece]) -> Chosen:
        import torch

        left = np.delete(selection.mask(stored) & ~stored.is_removed(), stored.hidden)
        counts = {}
        for piece in pieces:
            of_piece, steps = left[piece.first : piece.first + piece.size], _core.cuda_chunk_step
            of_steps = np.add.reduceat(of_piece, np.arange(0, piece.size, steps), dtype=np.int64)
            counts[piece.first] = torch.from_numpy(np.concatenate(([0], np.cumsum(of_steps))))
        bits = torch.from_numpy(np.packbits(~left, bitorder="little"))
        return Chosen(bits.to(self._device), counts=counts)

    def _groups_of(self, stored: Stored) -> Tensor:
        """Of what was added since, too."""
        import torch

        if self._groups is None or len(self._groups) < len(stored) - len(stored.hidden):
            wait_for(self._device)
            groups = np.delete(stored.groups, stored.hidden)
            self._groups = torch.from_numpy(groups).to(self._device)
            wait_for(self._device)
        return self._groups
