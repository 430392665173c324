"""Coordinates are sums of exact products; how far they may be off is part of the bound."""

import numpy as np
import pytest
from families import FAMILIES, draw
from hypothesis import given
from hypothesis import strategies as st
from reference import running_at

from pyhue import VectorMemory, _core
from pyhue._search.packed import packed
from pyhue._search.plan import plain, principal, principal_directions, stretch_of
from pyhue._search.stored import Stored

LEVELS = _core.available_isas()
ONE_PART = 2.0**-12  # what rounding to one part changes at most, of the norm


def errors(vectors, center, rotation):
    """Of each vector: its norm, the error of its coordinates in two parts and as stored, and a bound."""
    projection = principal(center, rotation, vectors).projection
    found = projection.coordinates(vectors)
    centered = vectors.astype(np.float64) - center
    norms = np.linalg.norm(centered, axis=1)
    np.testing.assert_allclose(found.squared_norms, norms**2, rtol=1e-12)
    exact = centered @ projection.rotation.T / stretch_of(center, rotation)
    two = np.linalg.norm(found.values - exact, axis=1)
    stored = np.linalg.norm(projection.of_rows(vectors, np.arange(len(vectors))) - exact, axis=1)
    return norms, two, stored, (found.error - ONE_PART) / 8


def assert_within(vectors, center, rotation):
    norms, two, stored, bound = errors(vectors, center, rotation)
    assert (two <= bound * norms).all()
    in_float32 = 2.0**-23 * norms + np.sqrt(len(rotation)) * 2.0**-149
    small = norms < np.finfo(np.float32).max
    assert (stored <= (bound + ONE_PART) * norms + in_float32)[small].all()


@pytest.mark.parametrize("dim", [1, 31, 130])
@pytest.mark.parametrize("family", FAMILIES)
def test_error_is_within_its_bound(isa, family, dim):
    vectors = draw(family, 40, dim)
    center = vectors.mean(axis=0, dtype=np.float64)
    assert_within(vectors, center, principal_directions(vectors, center))


def test_error_is_there():
    """A bound of nothing would be refuted."""
    vectors = draw("normal", 40, 1280)
    directions = principal_directions(vectors, np.zeros(1280))
    norms, two, stored, bound = errors(vectors, np.zeros(1280), directions)
    assert 0 < (two / norms).max() <= bound < 1e-5
    assert ONE_PART / 4 < (stored / norms).max() <= ONE_PART


def test_products_are_the_same_at_every_level():
    vectors = draw("normal", 70, 333)
    projection = _core.Projection(np.full(333, 0.1), draw("normal", 90, 333, seed=1).astype(np.float64))
    found = []
    for level in LEVELS:
        with running_at(level, 1):
            found.append((projection.coordinates(vectors).values, projection.of_rows(vectors, np.arange(70))))
    for other in found[1:]:
        for array, first in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(array, first)


def test_sums_that_cancel_and_grow(isa):
    """Products whose sums are as large as they can be, and sums that are large only in between."""
    dim = 1024
    signs = np.where(np.arange(dim) < dim // 2, 1.0, -1.0)
    third = np.full((2, dim), 1 / 3, np.float32)
    one = np.eye(2, dim, dtype=np.float32)
    for vectors in (third, third * np.float32(1 + 2**-20), (third * signs).astype(np.float32), one):
        for row in (third[0], one[0]):
            assert_within(vectors, np.zeros(dim), np.tile(row.astype(np.float64), (dim, 1)) * 0.09)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e20, 3e38])
def test_scale_is_not_lost(scale):
    """Vectors are scaled before they are multiplied: neither small nor large ones lose anything."""
    vectors = (np.sign(draw("normal", 20, 64)) * np.float32(scale)).astype(np.float32)
    assert_within(vectors, np.zeros(64), principal_directions(vectors, np.zeros(64)))


def test_what_one_value_hides_is_a_second_part():
    """The others are fractions of what 16 bits resolve of it."""
    vectors = draw("normal", 20, 1280) * np.float32(1e-4)
    vectors[:, 7] = 3
    norms, _, stored, _ = errors(vectors, np.zeros(1280), principal_directions(vectors, np.zeros(1280)))
    assert (stored / norms).max() < 2.0**-20


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dim", [1, 40, 300])
def test_stretch_is_a_bound(family, dim):
    vectors = draw(family, 320, dim)
    center = vectors.mean(axis=0, dtype=np.float64)
    directions = principal_directions(vectors, center)
    for rotation in (directions, directions[: 1 + dim // 2], directions * np.linspace(0.5, 1.3, dim)):
        rounded = _core.Projection(center, rotation).rotation
        np.testing.assert_allclose(rounded, rotation, rtol=0, atol=2e-5)
        assert np.linalg.norm(rounded, 2) <= stretch_of(center, rotation)


def test_stretch_is_near():
    """Coordinates are divided by it, so that what is too much is lost."""
    vectors = draw("normal", 2000, 512)
    directions = principal_directions(vectors, np.zeros(512))
    exact = np.linalg.norm(_core.Projection(np.zeros(512), directions).rotation, 2)
    assert 1 < exact <= stretch_of(np.zeros(512), directions) < 1 + 1.5 * (exact - 1)


@given(st.integers(1, 60), st.integers(1, 140), st.integers(0, 2**31))
def test_a_row_depends_on_nothing_else(n, dim, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    vectors[rng.random((n, dim)) < 0.01] *= 1e5  # some take two parts
    projection = _core.Projection(rng.standard_normal(dim), rng.standard_normal((1 + dim // 2, dim)))
    chosen = rng.permutation(n)[: 1 + n // 3]
    whole = projection.coordinates(vectors).values
    np.testing.assert_array_equal(projection.coordinates(vectors[chosen]).values, whole[chosen])
    whole = projection.of_rows(vectors, np.arange(n))
    np.testing.assert_array_equal(projection.of_rows(vectors, chosen), whole[chosen])


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_coordinates_of_stored_rows(isa, dtype, rotated):
    memory = VectorMemory(70, normalize=False, dtype=dtype)
    memory.add(draw("normal", 300, 70))
    rotation = principal_directions(memory.vectors, np.zeros(70))[:9] if rotated else None
    projection = _core.Projection(np.full(70, 0.25), rotation)
    rows = np.random.default_rng(0).integers(0, 300, 500)
    expected = projection.coordinates(memory.vectors[rows])
    off = projection.of_rows(memory._stored.array, rows) - expected.values
    norms = np.sqrt(expected.squared_norms)
    assert (np.linalg.norm(off, axis=1) <= (ONE_PART + 2.0**-20 if rotated else 2.0**-23) * norms).all()


@pytest.mark.parametrize("rotated", [False, True])
def test_packed_forms_are_the_same_at_every_level(rotated):
    vectors = draw("normal", 200, 75) * np.float32(10) ** np.arange(-20, 55).clip(-20, 18).astype(np.float32)
    plan = plain(np.zeros(75), vectors)
    if rotated:
        plan = principal(np.zeros(75), np.linalg.qr(draw("normal", 75, 75).astype(np.float64))[0], vectors)
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
    assert found.error == 0


@pytest.mark.parametrize(
    ("center", "rotation", "stretch", "named"),
    [
        (np.zeros(0), None, 1.0, "center"),
        (np.zeros(4, np.float32), None, 1.0, "center"),
        (np.zeros(4), np.zeros((2, 3)), 1.0, "rotation"),
        (np.zeros(4), np.zeros((0, 4)), 1.0, "rotation"),
        (np.zeros(4), np.zeros((2, 4), np.float32), 1.0, "rotation"),
        (np.zeros(4), np.full((2, 4), np.nan), 1.0, "rotation"),
        (np.zeros(4), np.full((2, 4), np.inf), 1.0, "rotation"),
        (np.zeros(4), None, 0.0, "stretch"),
        (np.zeros(4), None, np.nan, "stretch"),
        (np.zeros(4), None, np.inf, "stretch"),
    ],
)
def test_arrays_are_checked(center, rotation, stretch, named):
    with pytest.raises((ValueError, TypeError), match=named):
        _core.Projection(center, rotation, stretch)


@pytest.mark.parametrize("shape", [(3, 5), (4,)])
def test_vectors_are_checked(shape):
    with pytest.raises(ValueError, match="vectors"):
        _core.Projection(np.zeros(4), None).coordinates(np.zeros(shape, np.float32))
