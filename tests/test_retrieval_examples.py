"""The examples of retrieval on features: each runs, and computes what it says."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import torch
from matplotlib.image import imread
from pictures import write_pictures
from scipy.spatial.distance import cdist
from sklearn.metrics import jaccard_score

from pyhue import VectorMemory, _cli

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of three colours, and the features of them."""
    folder = tmp_path_factory.mktemp("examples")
    write_pictures(folder / "images", 8)
    options = ["--backbone", "resnet18-3x3-w4", "--image-size", "32", "--out", str(folder / "features")]
    assert _cli.main(["features", str(folder / "images"), *options]) == 0
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """run(name, *arguments) runs an example in the folder and returns what it prints, in lines."""

    def run_example(name, *arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        example(name).main()
        return capsys.readouterr().out.splitlines()

    return run_example


def test_knn_evaluation(run):
    lines = run("knn_evaluation", "features", "-k", "1", "5", "200")
    assert lines[0] == "12 images fitted, 12 asked, 3 classes"
    table = [line.split() for line in lines[2:4]]
    assert [row[0] for row in table] == ["1", "5"]  # of 12 fitted, there are no 200
    assert all(row[1] == row[3] and float(row[1]) > 50 for row in table)


def test_knn_votes():
    module, rng = example("knn_evaluation"), np.random.default_rng(0)
    cosines, labels = rng.random((6, 4)), rng.integers(0, 3, (6, 4))
    expected = np.zeros((6, 3))
    for query, neighbor in np.ndindex(6, 4):
        expected[query, labels[query, neighbor]] += np.exp(cosines[query, neighbor] / 0.07)
    np.testing.assert_allclose(module.votes(cosines, labels, 3) * np.exp(1 / 0.07), expected)
    assert module.accuracies(expected, expected.argmax(axis=1))[0] == 100
    chosen = module.every_second(np.array([2, 0, 2, 2, 0, 1]))
    np.testing.assert_array_equal(chosen, [True, True, False, True, False, True])


def test_anomaly_memory(run, folder):
    arguments = ("features", "--normal", "red", "--images", "images", "--out", "picture.png")
    lines = run("anomaly_memory", *arguments)
    assert lines[:2] == ["memory: 64 patches of 4 images of red", "asked: 4 normal images, 16 others"]
    assert float(lines[2].removeprefix("area under the curve: ")) > 0.8
    picture = imread(folder / "picture.png")
    assert picture.shape[1] > 500
    assert len(np.unique(picture)) > 100


def test_anomaly_patches_and_maps():
    module, rng = example("anomaly_memory"), np.random.default_rng(0)
    activations = rng.random((5, 3, 4, 6), np.float32)
    pooled = torch.nn.functional.avg_pool2d(
        torch.from_numpy(activations), 3, stride=1, padding=1, count_include_pad=False
    )
    expected = pooled.flatten(2).mT.numpy()
    np.testing.assert_allclose(module.patches(activations), expected, rtol=1e-6)
    memory = VectorMemory(3, normalize=False)
    memory.add(expected[:2].reshape(-1, 3))
    maps = module.distance_maps(memory, activations[2:], at_once=2)
    nearest = cdist(expected[2:].reshape(-1, 3), expected[:2].reshape(-1, 3)).min(axis=1)
    np.testing.assert_allclose(maps, nearest.reshape(3, 4, 6), atol=1e-6)


def test_anomalies_of_an_unknown_class(run, capsys):
    with pytest.raises(SystemExit):
        run("anomaly_memory", "features", "--normal", "pink")
    assert "--normal: expected one of blue, green, red" in capsys.readouterr().err


def test_out_of_distribution(run):
    lines = run("out_of_distribution", "features", "-k", "3", "--seed", "2")
    assert lines[:2] == [
        "1 of 3 classes known, 4 images stored",
        "asked: 4 images of known classes, 16 of others",
    ]
    assert all(float(line.split("AUROC")[1].split()[0]) > 70 for line in lines[2:4])


def test_out_of_distribution_scores(capsys):
    module, rng = example("out_of_distribution"), np.random.default_rng(0)
    stored, asked = rng.random((6, 3, 2, 2)) - 0.5, rng.random((4, 3, 2, 2)) - 0.5
    found = module.scores(module.pixel_vectors, stored, asked, 5, at_once=3)
    unit, queries = (
        part.transpose(0, 2, 3, 1).reshape(-1, 3) / np.linalg.norm(part, axis=1).reshape(-1, 1)
        for part in (stored, asked)
    )
    expected = np.sort(cdist(queries, unit), axis=1)[:, 4].reshape(4, 4).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    asked[:, :, 0, 0] = 0  # finds nothing: as far as can be
    found = module.scores(module.pixel_vectors, stored, asked, 5)
    expected = np.sort(cdist(queries, unit), axis=1)[:, 4].reshape(4, 4)[:, 1:].sum(axis=1)
    np.testing.assert_allclose(found, (expected + 2) / 4, rtol=1e-5)
    module.report("name", np.repeat([False, True], 20), np.arange(40.0)[::-1])
    assert capsys.readouterr().out.split()[1:] == ["AUROC", "0.00", "FPR@95", "100.00"]


def test_dense_retrieval(run):
    lines = run("dense_retrieval", "--scenes", "30")
    assert lines[0] == "memory: 3840 patches of 49 channels, 11 labels"
    shares = [float(line.split(": ")[1].split(" %")[0]) for line in lines[1:3]]
    assert shares[0] > 85
    assert shares[1] > 40
    assert run("dense_retrieval", "features")[0] == "memory: 192 patches of 32 channels, 3 labels"


def test_dense_votes_and_scores():
    module, rng = example("dense_retrieval"), np.random.default_rng(0)
    vectors, labels = rng.random((50, 4)), rng.integers(0, 3, 50)
    memory = VectorMemory(4)
    memory.add(vectors)
    queries = rng.random((2, 6, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = queries @ unit.T / np.linalg.norm(queries, axis=2, keepdims=True)
    nearest = np.argsort(-cosines, axis=2)[..., : module.K]
    weights = np.exp(np.take_along_axis(cosines, nearest, axis=2) / module.TEMPERATURE)
    votes = np.stack([np.where(labels[nearest] == label, weights, 0).sum(axis=2) for label in range(3)], 2)
    found = module.predicted(memory, labels, queries, 3)
    np.testing.assert_array_equal(found, votes.argmax(axis=2))
    assert (module.predicted(memory, labels, np.zeros((1, 2, 4)), 3) == 0).all()  # they find nothing
    truth = rng.integers(0, 3, (2, 6))
    expected = jaccard_score(truth.ravel(), found.ravel(), average="macro")
    assert module.mean_iou(found, truth, 3) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", ["knn_evaluation", "anomaly_memory", "dense_retrieval", "out_of_distribution"]
)
def test_they_are_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 120


def test_the_anomalib_memory(monkeypatch):
    """What docs/evaluations.md shows, on a stand-in for anomalib's class: its searches by brute force."""
    module = types.ModuleType("anomalib.models.image.patchcore.torch_model")
    module.PatchcoreModel = torch.nn.Module
    for name in ("anomalib", "anomalib.models", "anomalib.models.image", "anomalib.models.image.patchcore"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    page = (EXAMPLES.parent / "docs" / "evaluations.md").read_text()
    names = {}
    exec(page.split("<!-- needs: anomalib -->\n```python\n")[1].split("```")[0], names)
    model, embedding = names["ExactPatchcore"](), torch.rand(40, 6)
    model.subsample_embedding(embedding, 0.1)
    queries = torch.rand(7, 6)
    expected = torch.cdist(queries, embedding).topk(3, largest=False)
    scores, rows = model.nearest_neighbors(queries, 3)
    torch.testing.assert_close(scores, expected.values)
    torch.testing.assert_close(rows, expected.indices)
    scores, rows = model.nearest_neighbors(queries, 1)
    torch.testing.assert_close(scores, expected.values[:, 0])
    torch.testing.assert_close(rows, expected.indices[:, 0])
