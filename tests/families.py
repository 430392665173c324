"""Data that breaks searches: each family gives (n, dim) float32 vectors, queries are drawn alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Family = Callable[[np.random.Generator, int, int], NDArray[np.floating]]


def _normal(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float64]:
    return rng.standard_normal((n, dim))


def _ulps(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float32]:
    """One vector, and copies in which a few elements are one float32 step away."""
    base = np.random.default_rng(7).uniform(0.5, 2, dim).astype(np.float32)
    vectors = np.tile(base, (n, 1))
    moved = rng.random((n, dim)) < 2 / dim
    towards = np.where(rng.random((n, dim)) < 0.5, np.float32(-np.inf), np.float32(np.inf))
    return np.where(moved, np.nextafter(vectors, towards), vectors)


def _huge_channel(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float64]:
    vectors = _normal(rng, n, dim)
    vectors[:, dim // 2] *= 1e8
    return vectors


def _bfloat16(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float64]:
    """A vector of bfloat16 numbers, copies a few steps away, and each one's mirror image.

    Distances differ by 2^-14 and squared norms are about 2 dim: whatever a bound leaves out shows.
    """
    base = 1 + np.random.default_rng(11).integers(0, 120, dim) / 128
    vectors = base + (rng.random((n, dim)) < 8 / dim) / 128
    vectors[1::2] = -vectors[: n // 2 * 2 : 2]
    return vectors


def _with_zero_rows(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float64]:
    vectors = np.maximum(_normal(rng, n, dim), 0)
    vectors[rng.random(n) < 0.3] = 0
    return vectors


def _duplicated(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float64]:
    few = np.random.default_rng(5).standard_normal((max(1, min(7, n)), dim))
    return few[rng.integers(0, len(few), n)]


def _lattice(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float64]:
    """Small integers: many ties, and every distance is computed without rounding."""
    return rng.integers(-1, 2, (n, dim)).astype(np.float64)


FAMILIES: dict[str, Family] = {
    "normal": _normal,
    "uniform": lambda rng, n, dim: rng.random((n, dim)),
    "relu60": lambda rng, n, dim: np.maximum(_normal(rng, n, dim) - 0.25, 0),
    "relu85": lambda rng, n, dim: np.maximum(_normal(rng, n, dim) - 1.04, 0),
    "zero rows": _with_zero_rows,
    "duplicated": _duplicated,
    "lattice": _lattice,
    "all equal": lambda rng, n, dim: np.full((n, dim), 0.3),
    "zeros": lambda rng, n, dim: np.zeros((n, dim)),
    "signed zeros": lambda rng, n, dim: np.copysign(0.0, _normal(rng, n, dim)),
    "tiny 1e-18": lambda rng, n, dim: 1e-18 * _normal(rng, n, dim),
    "tiny 1e-30": lambda rng, n, dim: 1e-30 * _normal(rng, n, dim),
    "subnormal": lambda rng, n, dim: 1e-42 * _normal(rng, n, dim),
    "huge 1e15": lambda rng, n, dim: 1e15 * _normal(rng, n, dim),
    "huge 1e18": lambda rng, n, dim: 1e18 * _normal(rng, n, dim),
    "overflow": lambda rng, n, dim: 1e19 * _normal(rng, n, dim),
    "all overflow": lambda rng, n, dim: 1e37 * _normal(rng, n, dim),
    "translated 1e3": lambda rng, n, dim: 1e3 + _normal(rng, n, dim),
    "translated 1e7": lambda rng, n, dim: 1e7 + _normal(rng, n, dim),
    "20 orders": lambda rng, n, dim: _normal(rng, n, dim) * 10 ** rng.uniform(-10, 10, (n, 1)),
    "20 orders by channel": lambda rng, n, dim: _normal(rng, n, dim) * 10 ** rng.uniform(-10, 10, dim),
    "one ulp": _ulps,
    "bfloat16": _bfloat16,
    "rank 1": lambda rng, n, dim: _normal(rng, n, 1) * np.linspace(-1, 1, dim),
    "huge channel": _huge_channel,
}


def draw(family: str, n: int, dim: int, seed: int = 0) -> Floats:
    """Vectors of the family in float32."""
    return FAMILIES[family](np.random.default_rng([seed, n, dim]), n, dim).astype(np.float32)
