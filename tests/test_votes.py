"""Which pixels spoke for a class, against the definition; and the examples about the density's gradient."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyhue import PixelMemory
from pyhue.observe import votes
from pyhue.observe.plots import plot_votes

EXAMPLES = Path(__file__).parents[1] / "examples"


def _case(classes=(0, 1, 2)):
    rng = np.random.default_rng(0)
    memory = PixelMemory(5)
    memory.add(rng.random((12, 6, 5)), np.array(classes)[np.arange(12) % 3])
    return memory, rng.random((4, 5, 2, 3))


@pytest.mark.parametrize("classes", [(0, 1, 2), (-7, 4, 90)])
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_the_definition(classes, eps):
    memory, maps = _case(classes)
    labels = np.array(classes)[[0, 2, 1, 1]]
    found = votes(maps, memory, labels, k=7, eps=eps)
    vectors = maps.reshape(4, 5, 6).swapaxes(1, 2)
    for image, label in enumerate(labels):
        weights = []
        for query in vectors[image]:
            distances, indices = memory.search(query, 7)
            kernel = np.exp(-distances.astype(np.float64) / (float(distances[0]) + eps))
            weights.append(kernel[memory.labels[indices] == label].sum())
        np.testing.assert_allclose(found[image].reshape(-1), np.array(weights) / sum(weights), rtol=1e-9)


def test_the_predicted_class_is_the_default():
    memory, maps = _case()
    np.testing.assert_array_equal(votes(maps, memory), votes(maps, memory, memory.predict(maps)))
    np.testing.assert_allclose(votes(maps, memory).sum(axis=(1, 2)), 1)


def test_nobody_votes():
    memory, maps = _case()
    maps[1] = 0
    found = votes(maps, memory, [0, 0, 5, 0])
    assert np.isnan(found[1:3]).all()
    assert np.isfinite(found[[0, 3]]).all()


@pytest.mark.parametrize("labels", [[0, 1], [[0, 1, 2, 0]]])
def test_labels_of_other_images(labels):
    memory, maps = _case()
    with pytest.raises(ValueError, match=r"^labels: expected shape \(4,\)"):
        votes(maps, memory, labels)


def test_a_picture(tmp_path):
    memory, maps = _case()
    figure = plot_votes([maps[i].sum(axis=0) for i in range(4)], votes(maps, memory), list("abcd"))
    figure.savefig(tmp_path / "votes.png")
    assert (tmp_path / "votes.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("train_by_density.py", ["--seeds", "1", "--epochs", "1", "--known", "200"], "density, by memory"),
        ("votes_of_pixels.py", ["votes.png"], "votes.png: accuracy"),
    ],
)
def test_examples_run(name, arguments, expected, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("pyhue.nn")
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
