import csv

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from pyhue import PixelMemory, _cli, descriptors
from pyhue.descriptors import _rivals, evaluate
from pyhue.descriptors.evaluate import classify
from pyhue.descriptors.pooling import regions
from pyhue.features import Features


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
