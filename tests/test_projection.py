"""Coordinates are float32 sums; how far they may be off is part of the bound."""

import numpy as np
import pytest
from families import FAMILIES, draw
from hypothesis import given
from hypothesis import strategies as st
from reference import running_at

from pyhue import VectorMemory, _core
from pyhue._search.packed import packed
from pyhue._search.plan import plain, principal, principal_directions
from pyhue._search.stored import Stored

LEVELS = _core.available_isas()


def errors(vectors, center, rotation):
    """Of each vector, the error of its coordinates relative to its norm; and what the bound says of it."""
    plan = principal(center, rotation, vectors)
    found = plan.projection.coordinates(vectors)
    centered = vectors.astype(np.float64) - center
    norms = np.linalg.norm(centered, axis=1)
    np.testing.assert_allclose(found.squared_norms, norms**2, rtol=1e-12)
    exact = centered @ rotation.astype(np.float32).astype(np.float64).T
    off = np.linalg.norm(found.values - exact, axis=1)
    return off / np.where(norms > 0, norms, 1), (found.orthogonality_error - plan.orthogonality_error) / 2


@pytest.mark.parametrize("dim", [1, 31, 130])
@pytest.mark.parametrize("family", FAMILIES)
def test_error_is_within_its_bound(isa, family, dim):
    vectors = draw(family, 40, dim)
    center = vectors.mean(axis=0, dtype=np.float64)
    off, bound = errors(vectors, center, principal_directions(vectors, center))
    assert (off <= bound).all()


def test_error_is_there():
    """A bound of nothing would be refuted."""
    vectors = draw("normal", 40, 1280)
    off, bound = errors(vectors, np.zeros(1280), principal_directions(vectors, np.zeros(1280)))
    assert 0 < off.max() <= bound < 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_sums_that_cancel_and_grow(level):
    """Products that round the same way, and sums that are large only in between."""
    dim = 1024
    signs = np.where(np.arange(dim) < dim // 2, 1.0, -1.0)
    third = np.full((2, dim), 1 / 3, np.float32)
    with running_at(level, 1):
        for vectors in (third, third * np.float32(1 + 2**-20), (third * signs).astype(np.float32)):
            off, bound = errors(vectors, np.zeros(dim), np.tile(third[0].astype(np.float64), (dim, 1)) * 0.09)
            assert (off <= bound).all()


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e20, 3e38])
def test_scale_is_not_lost(scale):
    """Vectors are scaled before they are multiplied: neither small nor large ones lose anything."""
    vectors = (np.sign(draw("normal", 20, 64)) * np.float32(scale)).astype(np.float32)
    off, bound = errors(vectors, np.zeros(64), principal_directions(vectors, np.zeros(64)))
    assert (off <= bound).all()


@given(st.integers(1, 60), st.integers(1, 140), st.integers(0, 2**31))
def test_a_row_depends_on_nothing_else(n, dim, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    projection = _core.Projection(
        rng.standard_normal(dim), rng.standard_normal((1 + dim // 2, dim)).astype(np.float32), 0.0
    )
    whole = projection.coordinates(vectors).values
    chosen = rng.permutation(n)[: 1 + n // 3]
    np.testing.assert_array_equal(projection.coordinates(vectors[chosen]).values, whole[chosen])


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_coordinates_of_stored_rows(isa, dtype, rotated):
    memory = VectorMemory(70, normalize=False, dtype=dtype)
    memory.add(draw("normal", 300, 70))
    rotation = principal_directions(memory.vectors, np.zeros(70))[:9].astype(np.float32) if rotated else None
    projection = _core.Projection(np.full(70, 0.25), rotation, 0.0)
    rows = np.random.default_rng(0).integers(0, 300, 500)
    expected = projection.coordinates(memory.vectors[rows]).values.astype(np.float32)
    np.testing.assert_array_equal(projection.of_rows(memory._stored.array, rows), expected)


def test_packed_forms_are_the_same_at_every_level():
    """Of coordinates that are: those of the identity."""
    vectors = draw("normal", 200, 75) * np.float32(10) ** np.arange(-20, 55).clip(-20, 18).astype(np.float32)
    plan = plain(np.zeros(75), vectors)
    forms = []
    for level in LEVELS:
        with running_at(level, 1):
            forms.append(packed(Stored(vectors), plan, range(200), np.arange(200)).arrays[1:3])
    for form in forms[1:]:
        for array, first in zip(form, forms[0], strict=True):
            np.testing.assert_array_equal(array, first)


def test_the_identity_is_exact():
    vectors, center = draw("normal", 20, 40), draw("normal", 1, 40, seed=1)[0].astype(np.float64)
    found = plain(center, vectors).projection.coordinates(vectors)
    np.testing.assert_array_equal(found.values, vectors - center)
    assert found.orthogonality_error == 0


@pytest.mark.parametrize(
    ("center", "rotation", "error", "named"),
    [
        (np.zeros(0), None, 0.0, "center"),
        (np.zeros(4, np.float32), None, 0.0, "center"),
        (np.zeros(4), np.zeros((2, 3), np.float32), 0.0, "rotation"),
        (np.zeros(4), np.zeros((0, 4), np.float32), 0.0, "rotation"),
        (np.zeros(4), np.zeros((2, 4)), 0.0, "rotation"),
        (np.zeros(4), None, -1.0, "error"),
        (np.zeros(4), None, np.nan, "error"),
    ],
)
def test_arrays_are_checked(center, rotation, error, named):
    with pytest.raises((ValueError, TypeError), match=named):
        _core.Projection(center, rotation, error)


@pytest.mark.parametrize("shape", [(3, 5), (4,)])
def test_vectors_are_checked(shape):
    with pytest.raises(ValueError, match="vectors"):
        _core.Projection(np.zeros(4), None, 0.0).coordinates(np.zeros(shape, np.float32))
