"""ExactNeighbors beside sklearn.neighbors.NearestNeighbors(algorithm="brute"), k = 10, 1,000 and 100 queries.

Run: python -m pytest bench/bench_estimators.py --benchmark-only
Digits are those of scikit-learn, enlarged to 28 x 28, turned and shifted at random, 0 to 1: 50,000 fitted,
others asked. With PYHUE_DATA also 50,000 activations. Both take float32, turns in one process, the same
threads; answers are asserted equal first: where indices differ, distances must tie. Fitting, the first search
included, is told beside.
"""

import time

import numpy as np
import pytest
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import pyhue
from pyhue._demo.brute_force import require_same_neighbors
from pyhue.estimators import ExactNeighbors

K, FITTED, ASKED = 10, 50_000, 1000


def drawn_digits(n):
    """(n, 784) float32: a digit each, turned by up to 12 degrees, scaled, shifted, with noise."""
    rng = np.random.default_rng(0)
    digits = load_digits().images / 16
    result = np.empty((n, 28, 28), np.float32)
    for row in range(n):
        turn, scale = rng.normal(scale=0.1), 8 / 22 * rng.uniform(0.9, 1.1)
        matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        offset = 3.5 - matrix @ (13.5 + rng.uniform(-2, 2, 2))
        result[row] = affine_transform(digits[rng.integers(len(digits))], matrix, offset, (28, 28), order=1)
    noise = rng.normal(scale=0.02, size=result.shape).astype(np.float32)
    return np.where(result > 0, result + noise, 0).clip(0, 1).reshape(n, -1)


@pytest.fixture(scope="module")
def digits():
    return drawn_digits(FITTED + ASKED)


@pytest.fixture(scope="module")
def activations(real_activations):
    """Pixel vectors of unit length, images one after the other: those asked are of other images."""
    images = real_activations("int8")[0][:: 3969 * 49 // (FITTED + ASKED + 49)]
    vectors = np.asarray(images, np.float32).reshape(-1, images.shape[-1])
    vectors = vectors[vectors.any(axis=1)][: FITTED + ASKED]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def fitted():
    """fitted(name, vectors) -> both estimators, and the seconds of fitting ours."""
    kept = {}

    def fit(name, vectors):
        if name not in kept:
            kept.clear()
            begin = time.perf_counter()
            ours = ExactNeighbors(n_neighbors=K).fit(vectors)
            ours.kneighbors(vectors[:1])
            seconds = time.perf_counter() - begin
            theirs = NearestNeighbors(n_neighbors=K, algorithm="brute", n_jobs=pyhue.get_num_threads())
            kept[name] = ours, theirs.fit(vectors), seconds
        return kept[name]

    return fit


@pytest.mark.parametrize("count", [ASKED, 100])
@pytest.mark.parametrize("name", ["digits", "activations"])
def test_kneighbors(request, fitted, turns, report, name, count):
    vectors = request.getfixturevalue(name)
    vectors, queries = vectors[:-ASKED], vectors[-ASKED:][:count]
    ours, theirs, seconds = fitted(name, vectors)
    scale = np.float32(1 / np.linalg.norm(vectors, axis=1).max())  # ties are judged for unit length
    require_same_neighbors(
        scale * vectors, scale * queries, ours.kneighbors(queries)[1], theirs.kneighbors(queries)[1]
    )
    rival = "scikit-learn"
    times = turns(lambda: ours.kneighbors(queries), {rival: lambda: theirs.kneighbors(queries)}, warm=True)
    report(
        f"{name:<12} {len(vectors)} x {vectors.shape[1]}, {count:>4} queries: {times['pyhue'] * 1e3:7.1f} "
        f"ms, {rival} {times[rival] * 1e3:7.1f} ms, {times[rival] / times['pyhue']:5.1f}x; fitted in "
        f"{seconds:.1f} s; plan {ours.memory_.explain()['plan']}"
    )
