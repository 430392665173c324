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


def rows(turns):
    """Vectors of the first turns."""
    return sum(_EACH * (3 + turn % 4) for turn in range(turns))


def planned(patch):
    """Has a folder of so few vectors get a plan and a packed form, as one of 20,000 does."""
    for module in (publishing, host):
        patch.setattr(module, "OPTIMIZE_FROM", 40)


class Expected:
    """What a folder holds after any number of turns."""

    def __init__(self, turns):
        self.memories = [pyhue.PixelMemory(DIM)]
        for turn in range(turns):
            memory = pyhue.PixelMemory(DIM)
            for each in range(turn + 1):
                memory.add(*batch(each))
            self.memories.append(memory)
        self.queries = draw("relu60", 4, DIM, 999)

    def turns(self, found):
        """After how many turns a memory is as it is; fails where it never is."""
        turns = [rows(turn) for turn in range(len(self.memories))].index(len(found))
        memory = self.memories[turns]
        for name in ("vectors", "labels", "images", "pixels", "classes", "class_counts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(memory, name))
        if turns:
            for got, expected in zip(found.search(self.queries), memory.search(self.queries), strict=True):
                np.testing.assert_array_equal(got, expected)
        return turns
