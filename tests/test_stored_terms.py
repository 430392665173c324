"""What is stored of a vector is rounded to the safe side: in fractions, where nothing rounds."""

from fractions import Fraction

import numpy as np
import pytest

from pyhue._search.packed import packed
from pyhue._search.plan import Plan
from pyhue._search.stored import Stored

DIM, N = 140, 64
ENDS = (64, 128, 140)


def _vectors():
    """Values that are cut, that lie between two steps, and tails that a sum in float64 does not see."""
    vectors = np.random.default_rng(0).standard_normal((N, DIM)) * np.linspace(0.1, 100, N)[:, None]
    vectors[:4] = 0
    vectors[:4, 0] = 1, 1, 0.25, 0.25
    vectors[0, 1] = vectors[1, 70] = vectors[2, 1] = vectors[3, 139] = 2.0**-30
    return np.round(vectors * 2**20).astype(np.float32) * np.float32(2**-20) + np.where(
        np.abs(vectors) == 2.0**-30, vectors, 0
    ).astype(np.float32)


def _squares(values):
    return sum(Fraction(float(value)) ** 2 for value in values)


@pytest.mark.parametrize("rows", [False, True], ids=["blocks", "rows"])
def test_stored_terms(isa, rows):
    vectors = _vectors()
    stages = (ENDS[:1], 64, ENDS[1:]) if rows else (ENDS, DIM, ())
    plan = Plan("staged", np.zeros(DIM), None, *stages, np.ones(DIM))  # steps alike: every weight is 1
    arrays = packed(Stored(vectors), plan, range(N), np.arange(N)).arrays
    bounds = arrays[2][0]
    terms = bounds[1:].reshape(-1, 3, N).transpose(2, 0, 1)
    if rows:
        terms = np.concatenate((terms, arrays[4]), axis=1)
    for vector, half_norm, of_vector in zip(vectors, bounds[0], terms, strict=True):
        error = vector.astype(np.float64) - np.clip(np.rint(vector), -127, 127)
        assert Fraction(float(half_norm)) <= _squares(vector) / 2
        for end, (norm, lost, tail) in zip(ENDS, of_vector, strict=True):
            assert Fraction(float(norm)) ** 2 >= _squares(vector[:end])
            assert Fraction(float(lost)) ** 2 >= _squares(error[:end])
            assert Fraction(float(tail)) ** 2 >= _squares(vector[end:])
