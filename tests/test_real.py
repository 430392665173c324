"""Search and prediction on real activations, where PYHUE_DATA names the folder that has them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reference import assert_exact, assert_neighbors, density64, distances64, stored

import pyhue

pytestmark = pytest.mark.skipif(
    not os.environ.get("PYHUE_DATA"), reason="PYHUE_DATA does not name the data folder"
)

K = 10


@pytest.fixture(scope="module", params=["int8", "float"])
def images(request, tmp_path_factory):
    """Activations (images, 49, 1280) and labels of six classes: the first 30 to store, 6 to ask about."""
    pytest.importorskip("torch")
    pytest.importorskip("PIL")
    out = tmp_path_factory.mktemp("features") / "activations.npy"
    script = Path(os.environ["PYHUE_DATA"]) / "features.py"
    arguments = ["--net", request.param, "--classes", "6", "--per-class", "6"]
    subprocess.run([sys.executable, str(script), str(out), *arguments], check=True, capture_output=True)
    return np.load(out), np.load(out.with_suffix(".labels.npy"))


@pytest.fixture(scope="module", params=[True, False], ids=["normalized", "raw"])
def case(request, images):
    """Whether to normalise; the vectors and the queries as they are compared; exact distances."""
    activations, _ = images
    vectors, queries = (
        stored(part.reshape(-1, 1280), normalize=request.param) for part in np.split(activations, [30])
    )
    exact = np.stack([distances64(query, vectors) for query in queries])
    if request.param:  # then vectors of zeros have no direction: they are not found, and find nothing
        exact[:, ~vectors.any(axis=1)] = np.inf
    return request.param, vectors, queries, exact


def _asking(normalize, queries):
    """Which queries have neighbours."""
    return np.flatnonzero(queries.any(axis=1) | (not normalize))


def _memory(images, normalize):
    activations, labels = images
    memory = pyhue.PixelMemory(1280, normalize=normalize)
    memory.add(activations[:30], labels[:30])
    return memory


def test_search(isa, threads, images, case):
    normalize, vectors, queries, _ = case
    memory = _memory(images, normalize)
    np.testing.assert_array_equal(memory.vectors, vectors)
    result = memory.search(images[0][30:], K)
    asking, rows = (_asking(normalize, part) for part in (queries, vectors))
    distances, indices = (part.reshape(-1, K)[asking][::19] for part in result)
    assert np.isin(indices, rows).all()
    indices, vectors, queries = np.searchsorted(rows, indices), vectors[rows], queries[asking][::19]
    assert_neighbors(distances, indices, queries, vectors)
    assert_exact(pyhue.SearchResult(distances, indices), queries, vectors)


def test_stored_vectors_find_themselves(isa, images, case):
    normalize, vectors, _, _ = case
    asking = _asking(normalize, vectors)
    result = _memory(images, normalize).search(images[0][:30].reshape(-1, 1280)[asking], 1)
    assert (result.distances == 0).all()
    np.testing.assert_array_equal(vectors[result.indices[:, 0]], vectors[asking])


def test_prediction(isa, images, case):
    normalize, _, vectors, exact = case
    memory, queries = _memory(images, normalize), images[0][30:]
    indices = np.argsort(exact, axis=1, kind="stable")[:, :K]
    nearest = np.take_along_axis(exact, indices, axis=1).reshape(6, 49, K)
    labels = memory.labels[indices]
    labels[np.setdiff1d(np.arange(len(vectors)), _asking(normalize, vectors))] = -1
    labels = labels.reshape(6, 49, K)
    expected = density64(nearest, labels, memory.class_counts, 1e-8)
    likelihood = memory.log_likelihood(queries, K)
    assert np.isfinite(expected).any(axis=1).all()
    np.testing.assert_allclose(likelihood, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(memory.predict(queries, K), expected.argmax(axis=1))
