"""A memory's folder that goes through known states, and whether what is found is one of them."""

import numpy as np
from families import draw

import pyhue
from pyhue._saved import publish as publishing
from pyhue._search import host

DIM = 16
_EACH = 5  # vectors of an image


def batch(turn):
    """Activations and labels that are added in the turn of this number."""
    count = 3 + turn % 4
    maps = draw("relu60", count * _EACH, DIM, turn).reshape(count, _EACH, DIM)
    return maps, (np.arange(count) + turn) % 5


def change(memory, turn):
    """What a turn does: every third removes two images, one of them just added; the others add some."""
    if turn % 3 == 2:
        memory.remove(images=[turn, memory._newest().num_images - 1])
    else:
        memory.add(*batch(turn))


def rows(turns):
    """Vectors that the first turns add, where all do."""
    return sum(_EACH * (3 + turn % 4) for turn in range(turns))


def planned(patch):
    """Has a folder of so few vectors get a plan and a packed form, as one of 20,000 does."""
    for module in (publishing, host):
        patch.setattr(module, "OPTIMIZE_FROM", 40)


class Expected:
    """What a folder holds after any number of turns; each adds a batch, or is a `change`."""

    def __init__(self, turns, turn=lambda memory, number: memory.add(*batch(number))):
        self.memories = []
        for count in range(turns + 1):
            memory = pyhue.PixelMemory(DIM)
            for each in range(count):
                turn(memory, each)
            self.memories.append(memory)
        self.queries = draw("relu60", 4, DIM, 999)

    def turns(self, found):
        """After how many turns a memory is as it is, but for compacting; fails where it never is."""
        (turns,) = (turn for turn, memory in enumerate(self.memories) if _content(memory) == _content(found))
        memory = self.memories[turns]
        left, expected = (np.flatnonzero(~each.removed) for each in (found, memory))
        for name in ("vectors", "labels", "images", "pixels"):
            np.testing.assert_array_equal(getattr(found, name)[left], getattr(memory, name)[expected])
        np.testing.assert_array_equal(_counted(found), _counted(memory))
        if len(found):
            rows = np.full(len(found), -1)
            rows[left] = expected
            distances, indices = found.search(self.queries)
            there = memory.search(self.queries, distances.shape[1])
            np.testing.assert_array_equal(distances, there.distances)
            np.testing.assert_array_equal(np.where(indices >= 0, rows[indices], -1), there.indices)
        return turns


def _content(memory):
    """How many images were added, and which are left."""
    return memory._newest().num_images, set(memory.images[~memory.removed].tolist())


def _counted(memory):
    """Classes that are left, and how many vectors of each."""
    there = memory.class_counts > 0
    return memory.classes[there], memory.class_counts[there]
