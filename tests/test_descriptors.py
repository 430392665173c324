import csv
import importlib
import json

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from pyhue import PixelMemory, _cli, descriptors
from pyhue.descriptors import _rivals, evaluate
from pyhue.descriptors.evaluate import classify
from pyhue.descriptors.pooling import regions
from pyhue.features import Features
from pyhue.images import stratified_folds
from pyhue.pixel_vectors import pixel_vectors


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((5, 6, 4, 3)).astype(np.float16)


@pytest.fixture(scope="module")
def features():
    """Three classes, each with a channel of its own at a place of its own, under noise."""
    random = np.random.default_rng(1)
    activations = random.random((36, 8, 3, 3)).astype(np.float16)
    labels = np.arange(36) % 3
    for image, label in enumerate(labels):
        activations[image, label, label, :] += 3
    names = [f"{image}.png" for image in range(36)]
    return Features(activations, labels, ["a", "b", "c"], names, {"backbone": "planted"})


def test_pooling_is_numpy_s(maps):
    wide = maps.astype(np.float64)
    np.testing.assert_allclose(descriptors.average(maps), wide.mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_allclose(descriptors.maximum(maps), wide.max(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(descriptors.flatten(maps), wide.reshape(5, -1))
    for p in (1, 3, 5.5):
        expected = (wide**p).mean(axis=(2, 3)) ** (1 / p)
        np.testing.assert_allclose(descriptors.gem(maps, p), expected, rtol=1e-5)


def test_gem_of_zeros_negatives_and_huge_values():
    maps = np.array([[[[0.0, 0.0]], [[-4.0, 2.0]], [[1e30, 1e30]]]])
    np.testing.assert_allclose(descriptors.gem(maps), [[0, 2 / 2 ** (1 / 3), 1e30]], rtol=1e-5)


def test_regions_of_square_and_long_maps():
    square = regions(7, 7, 3)
    assert len(square) == 1 + 4 + 9
    assert [side for *_, side in square] == [7] + [4] * 4 + [3] * 9
    long = regions(4, 8, 1)
    assert long == [(0, 0, 4), (0, 2, 4), (0, 4, 4)]  # neighbours share half, nearer to 40 % than none
    assert regions(8, 4, 1) == [(left, top, side) for top, left, side in long]
    for height, width in ((1, 1), (7, 7), (5, 9), (2, 30)):
        for top, left, side in regions(height, width):
            assert 0 <= top <= height - side
            assert 0 <= left <= width - side


def test_rmac_adds_up_unit_maxima(maps):
    expected = np.zeros((5, 6))
    for top, left, side in regions(4, 3, 2):
        part = maps[:, :, top : top + side, left : left + side].astype(np.float64).max(axis=(2, 3))
        expected += part / np.linalg.norm(part, axis=1, keepdims=True)
    np.testing.assert_allclose(descriptors.rmac(maps, levels=2), expected, rtol=1e-5)
    assert (descriptors.rmac(np.zeros((1, 3, 2, 2))) == 0).all()


def test_vlad_sums_differences_to_the_nearest_word():
    centres = np.array([[1, 0], [0, 1]], np.float32)
    maps = np.zeros((1, 2, 1, 3))
    maps[0, :, 0] = [[0.8, 0.6, 5.0], [0.6, 0.8, 0.0]]  # the third is word 0 itself
    found = descriptors.vlad(maps, centres).reshape(2, 2)
    for word, difference in enumerate(([-0.2, 0.6], [0.6, -0.2])):
        np.testing.assert_allclose(found[word], difference / np.linalg.norm(difference), rtol=1e-5)


def test_vocabulary_finds_planted_words_and_repeats():
    random = np.random.default_rng(2)
    words = np.eye(6)[:3]
    maps = words[random.integers(0, 3, (40, 4))] + 0.05 * random.random((40, 4, 6))
    maps = maps.transpose(0, 2, 1).reshape(40, 6, 2, 2)
    centres = descriptors.vocabulary(maps, words=3)
    np.testing.assert_array_equal(np.sort(centres.argmax(axis=1)), [0, 1, 2])
    np.testing.assert_array_equal(centres, descriptors.vocabulary(maps, words=3))


def test_every_descriptor_finds_planted_classes(features):
    results = {result.name: result for result in evaluate(features, k=3, folds=3)}
    expected = ["pixel vectors", "flattened", "average", "GeM", "maximum", "R-MAC", "VLAD"]
    assert list(results) == expected
    for result in results.values():
        assert result.correct.shape == (36,)
        least = 0.4 if result.name == "VLAD" else 0.8  # 9 vectors an image hardly fill 16 words
        assert result.accuracy > least, result.name
        assert result.error == pytest.approx(np.sqrt(result.accuracy * (1 - result.accuracy) / 36))
        assert result.rate > 0
    assert results["pixel vectors"].bytes_per_image == 9 * 8 * 4
    assert results["flattened"].bytes_per_image == 9 * 8 * 4
    assert results["average"].bytes_per_image == 8 * 4


def test_long_vectors_are_classified_as_short_ones_are():
    """Beyond PixelMemory's dimensions scikit-learn searches; zeros appended change no distance."""
    random = np.random.default_rng(3)
    stored, asked = random.random((40, 1, 16)), random.random((30, 1, 16))
    labels = np.arange(40) % 4
    short = classify(stored, labels, asked, 5)[0]
    padding = [(0, 0), (0, 0), (0, 5000)]
    np.testing.assert_array_equal(
        classify(np.pad(stored, padding), labels, np.pad(asked, padding), 5)[0], short
    )


def test_zero_vectors_are_left_out():
    """At distance 1 from everything they would be nearer than sparse vectors are to each other."""
    axes = np.eye(12)
    stored, asked = np.zeros((4, 3, 12)), np.zeros((2, 3, 12))
    stored[:, 0], stored[:, 1] = axes[:4], axes[4:8]  # the third of each is zero
    asked[0, 0], asked[1, 0] = axes[0] + 2 * axes[11], axes[3] + 2 * axes[10]
    labels = np.array([2, 1, 1, 0])
    np.testing.assert_array_equal(classify(stored, labels, asked, 1)[0], [2, 0])
    memory = PixelMemory(12, normalize=False)
    memory.add(stored, labels)
    unit = asked[:, 0] / np.sqrt(5)
    assert (memory.search(unit, 1).indices % 3 == 2).all()  # as they are here


def test_principal_components_keep_distances_and_zeros():
    """All directions: the distances of unit-length vectors. Few: those of vectors that lie in few."""
    random = np.random.default_rng(5)
    flat = random.random((30, 2, 3)) @ random.random((3, 12))  # 3 directions, of 12
    flat[4, 1] = 0
    for vectors, dims in ((random.random((30, 2, 12)), 12), (flat, 3)):
        unit = vectors.reshape(60, 12)
        norms = np.linalg.norm(unit, axis=1, keepdims=True)
        unit = unit / np.where(norms > 0, norms, 1)
        found = descriptors.Principal(vectors, dims)(vectors).reshape(60, dims)
        assert found.dtype == np.float32
        zero = norms[:, 0] == 0
        assert (found[zero] == 0).all()
        expected, got = (np.square(rows[~zero][:, None] - rows[~zero]).sum(2) for rows in (unit, found))
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert zero.sum() == 1  # the last had one
    reference = unit[~zero] - unit[~zero].mean(axis=0)
    values = np.linalg.svd(reference, compute_uv=False)[:3]
    np.testing.assert_allclose(np.linalg.norm(found[~zero], axis=0), values, rtol=1e-4)
    assert descriptors.Principal(vectors[:2], 12)(vectors).shape == (30, 2, 3)  # 4 vectors span no more
    with pytest.raises(ValueError, match="vectors: expected at least two that are not zero"):
        descriptors.Principal(np.zeros((3, 1, 4)), 2)


def test_principal_components_of_vectors_of_any_shape():
    vectors = np.random.default_rng(5).random((6, 4, 12))
    components = descriptors.Principal(vectors, 3)
    expected = components(vectors)
    flat = vectors.reshape(24, 12)
    for given in (flat, flat.tolist(), vectors[None], flat.reshape(2, 3, 4, 12)):
        for learned in (components, descriptors.Principal(given, 3)):
            found = learned(given)
            assert found.shape == (*np.shape(given)[:-1], 3)
            np.testing.assert_array_equal(found.reshape(6, 4, 3), expected)
    assert components(flat[0]).shape == (3,)
    assert components(flat[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda found: descriptors.Principal(np.float32(3), 1), ValueError, r"\(..., dim\).*, got \(\)"),
        (lambda found: descriptors.Principal(np.ones((0, 4)), 1), ValueError, r", got \(0, 4\)"),
        (lambda found: descriptors.Principal(np.ones((4, 0)), 1), ValueError, r", got \(4, 0\)"),
        (lambda found: descriptors.Principal([[1, 0], [0, 1]], 1), TypeError, "expected one of float16"),
        (lambda found: found(np.ones((2, 5))), ValueError, r"expected \(..., 6\), got \(2, 5\)"),
        (lambda found: found(1.5), ValueError, r"expected \(..., 6\), got \(\)"),
        (lambda found: found(np.eye(6, dtype=int)), TypeError, "expected one of float16"),
        (lambda found: found(np.full((2, 6), np.nan)), ValueError, "expected finite values"),
    ],
)
def test_vectors_without_components_are_named(call, error, message):
    with pytest.raises(error, match=f"^vectors: .*{message}"):
        call(descriptors.Principal(np.eye(6), 2))


def test_components_are_learned_from_the_memory_alone(features, monkeypatch):
    module = importlib.import_module("pyhue.descriptors.evaluate")
    learned = []

    class Spy(descriptors.Principal):
        def __init__(self, vectors, dims, seed):
            learned.append((vectors, dims))
            super().__init__(vectors, dims, seed)

    monkeypatch.setattr(module, "Principal", Spy)
    results = evaluate(features, k=3, folds=3, pca=20)
    assert [result.dim for result in results] == [8, 20, 8, 8, 8, 8, 20]
    parts = stratified_folds(features.labels, 3, 0)
    for (vectors, dims), (memory, _) in zip(learned[:3], parts, strict=True):
        np.testing.assert_array_equal(vectors, pixel_vectors(features.activations[memory]))
        assert dims == 8
    for (vectors, dims), (memory, _) in zip(learned[3:6], parts, strict=True):
        np.testing.assert_array_equal(vectors[:, 0], descriptors.flatten(features.activations[memory]))
        assert dims == 20
    assert [len(vectors) for vectors, _ in learned] == [24] * 21


def test_few_components_still_find_planted_classes(features):
    first, second = evaluate(features, k=3, folds=3, pca=4)[:2]
    assert (first.dim, first.bytes_per_image, second.dim) == (4, 9 * 4 * 4, 4)
    assert first.accuracy > 0.8
    assert second.accuracy > 0.8
    found, _ = _rivals.rivals(features, 5, 3, 0, pca=4)
    assert all(rival.recall > 0.5 for rival in found)


def test_difference_is_paired(features):
    results = evaluate(features, k=3, folds=3)
    gain, error = results[1].difference(results[0])
    assert gain == pytest.approx(results[1].accuracy - results[0].accuracy)
    assert error <= np.sqrt(results[0].error ** 2 + results[1].error ** 2) + 1e-12 or gain == 0
    assert results[0].difference(results[0]) == (0, 0)


def test_rivals_find_most_neighbours(features):
    found, missing = _rivals.rivals(features, 5, 3, 0)
    assert found[0].recall == 1
    assert len(found) == 1 + 2 * ("faiss" not in missing) + ("annoy" not in missing)
    for rival in found:
        assert rival.recall > 0.5, rival.name
        assert rival.correct.mean() > 0.8, rival.name


def test_rivals_that_are_not_installed_are_listed(features, monkeypatch):
    monkeypatch.setattr(_rivals.importlib.util, "find_spec", lambda name: None)
    found, missing = _rivals.rivals(features, 5, 3, 0)
    assert [rival.name for rival in found] == ["PixelMemory, exact"]
    assert missing == ["faiss", "annoy"]


def test_command_writes_its_tables(tmp_path, capsys):
    pytest.importorskip("torch")
    from PIL import Image

    random = np.random.default_rng(4)
    for number, name in enumerate("ab"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(4):
            pixels = random.integers(0, 100, (32, 32, 3), np.uint8)
            pixels[..., number] += 150
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{image}.png")
    out = tmp_path / "out"
    options = ["--backbone", "resnet18-3x3-w4", "--image-size", "32", "--out", str(out)]
    assert _cli.main(["descriptors", str(tmp_path / "images"), *options, "--folds", "2", "-k", "2"]) == 0
    text = capsys.readouterr().out
    assert text == (out / "descriptors.md").read_text()
    assert "| pixel vectors | " in text
    assert "| PixelMemory, exact " in text
    with open(out / "descriptors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["descriptor"] for row in rows][-1] == "VLAD"
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    features = str(out / "features.safetensors")
    reduced = ["--folds", "2", "-k", "2", "--pca", "3", "--exact-only", "--json"]
    assert _cli.main(["descriptors", features, *reduced, "--out", str(out)]) == 0
    assert [row["dim"] for row in json.loads(capsys.readouterr().out)["descriptors"]] == [3] * 7
    assert _cli.main(["descriptors", features, "--pca", "0", "--out", str(out)]) == 1
    assert "pca: expected at least 1, got 0" in capsys.readouterr().err
    assert _cli.main(["descriptors", features, "--folds", "9", "--out", str(out)]) == 1
    assert "9 folds need at least 9 images of each class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda maps: descriptors.average(maps[0]), "feature_maps"),
        (lambda maps: descriptors.gem(maps, p=0), "p"),
        (lambda maps: descriptors.rmac(maps, levels=0), "levels"),
        (lambda maps: descriptors.vocabulary(maps, words=1000), "words"),
        (lambda maps: descriptors.vlad(maps, np.zeros((2, 7), np.float32)), "feature_maps"),
    ],
)
def test_wrong_arguments_are_named(maps, call, message):
    with pytest.raises(ValueError, match=f"^{message}: "):
        call(maps)
