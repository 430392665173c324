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
    "PYHUE_DATA" not in os.environ, reason="PYHUE_DATA does not name the data folder"
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


@pytest.fixture(params=[True, False], ids=["normalized", "raw"])
def memory(request, images):
    activations, labels = images
    memory = pyhue.PixelMemory(1280, normalize=request.param)
    memory.add(activations[:30], labels[:30])
    return memory


def test_search(isa, threads, images, memory):
    queries = images[0][30:34:3].reshape(-1, 1280)
    result = memory.search(queries, K)
    compared = stored(queries, normalize=memory.normalize)
    assert_neighbors(*result, compared, memory.vectors)
    assert_exact(pyhue.SearchResult(*(part[:20] for part in result)), compared[:20], memory.vectors)


def test_stored_vectors_find_themselves(isa, memory):
    result = memory.search(memory.vectors[::7], 1)
    assert (result.distances[:, 0] <= 1e-12).all()
    if not memory.normalize:
        np.testing.assert_array_equal(memory.vectors[result.indices[:, 0]], memory.vectors[::7])


def test_prediction(isa, images, memory):
    queries = images[0][30:]
    compared = stored(queries.reshape(-1, 1280), normalize=memory.normalize)
    exact = np.stack([distances64(query, memory.vectors) for query in compared])
    indices = np.argsort(exact, axis=1, kind="stable")[:, :K]
    nearest = np.take_along_axis(exact, indices, axis=1).reshape(6, 49, K)
    labels = memory.labels[indices].reshape(6, 49, K)
    expected = density64(nearest, labels, memory.class_counts, 1e-8)
    likelihood = memory.log_likelihood(queries, K)
    assert np.isfinite(expected).any(axis=1).all()
    np.testing.assert_allclose(likelihood, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(memory.predict(queries, K), expected.argmax(axis=1))
