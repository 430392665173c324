"""The density vote on a GPU."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pyhue._cuda.search import DeviceSearch
from pyhue._cuda.stream import require_no_capture, wait_for
from pyhue._locks import Lock
from pyhue._search.labelled import Labelled
from pyhue._search.selection import EVERYTHING, Selection
from pyhue.pixel_vectors import image_vectors

if TYPE_CHECKING:
    from torch import Tensor


class Votes(NamedTuple):
    """Log-likelihoods and what they come from, on the GPU."""

    log_likelihood: Tensor  #: (images, classes) float64
    columns: Tensor  #: (images, pixels, k), places in `classes`, -1 where there is no neighbour
    class_counts: Tensor  #: (classes,)
    classes: Tensor  #: (classes,)


class DeviceDensity:
    """`pyhue.density` over what a `DeviceSearch` finds; its copy of the labels follows what is added."""

    def __init__(self, search: DeviceSearch):
        import torch

        self.search = search
        self._labels = torch.zeros(0, dtype=torch.int64, device=search.device)
        self._classes = self._class_counts = self._labels
        self._epoch = 0  # that the labels are of
        self._counted: tuple[int, Any] | None = None  # rows and removed bits that classes and counts are of
        self._launching = Lock()
        weakref.finalize(self, wait_for, search.device, os.getpid())

    def __reduce__(self) -> tuple[Any, ...]:
        return DeviceDensity, (self.search,)

    def log_likelihood(
        self,
        latest: Callable[[], Labelled],
        activations: Any,
        k: int,
        eps: float,
        selection: Selection = EVERYTHING,
    ) -> tuple[Tensor, Tensor]:
        """Float64 (images, classes) and the classes (classes,), both on the GPU."""
        vectors = image_vectors(self.search.accepted(activations, "activations"), latest().dim)
        images, pixels, dim = vectors.shape
        flat = vectors.reshape(images * pixels, dim)
        chosen = selection.of_queries((images,))
        of_pixels = chosen.of_pixels(pixels)
        stored, distances, indices = self.search.neighbors(latest, flat, "activations", k, of_pixels)
        shape = (images, pixels, k)
        found = self.vote(stored, distances.reshape(shape), indices.reshape(shape), eps, chosen)
        return found.log_likelihood, found.classes

    def vote(
        self,
        stored: Labelled,
        distances: Tensor,
        indices: Tensor,
        eps: float,
        selection: Selection = EVERYTHING,
    ) -> Votes:
        """What neighbours (images, pixels, k), found among these of `stored`, make of the classes.

        Class counts are (images, classes) where images exclude others.
        """
        import torch

        with self._launching.held():
            classes, counts = self._follow(stored)
            if selection is not EVERYTHING:
                counts = torch.from_numpy(selection.class_counts(stored)).to(self.search.device)
            labels = self._labels[indices.clamp(min=0)]
            columns = torch.searchsorted(classes, labels).masked_fill(indices < 0, -1)
            found = self.search.ops.density(distances, columns, counts, eps)
        return Votes(found, columns, counts, classes)

    def _follow(self, stored: Labelled) -> tuple[Tensor, Tensor]:
        """Classes and counts of what was searched; there are labels for all of it, and maybe for more."""
        import torch

        device = self.search.device
        counted = self._counted
        if (
            counted is None
            or counted[0] != len(stored)
            or counted[1] is not stored.removed
            or stored.epoch != self._epoch
        ):
            require_no_capture(device)
            wait_for(device)  # votes may be reading what goes away
            if stored.epoch != self._epoch:
                self._labels = self._labels[:0]
            added = torch.tensor(stored.labels[len(self._labels) :], device=device)
            self._labels = torch.cat((self._labels, added))
            self._classes = torch.tensor(stored.classes, device=device)
            self._class_counts = torch.tensor(stored.class_counts, device=device)
            self._counted, self._epoch = (len(stored), stored.removed), stored.epoch
            wait_for(device)  # whatever stream votes next
        return self._classes, self._class_counts
