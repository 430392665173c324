import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from matplotlib.image import imread

from pyhue import PixelMemory
from pyhue._demo import run as _demo
from pyhue._demo.brute_force import brute_force, require_same_neighbors
from pyhue._demo.plot import pick, votes


def short_run(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_demo, "_TIMED", 128)
        return _demo.run(folder, seed=3, epochs=3)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return short_run(tmp_path_factory.mktemp("demo"))


def test_numbers_are_consistent(report):
    assert report.train_images + report.test_images == 1797
    assert report.vectors == report.train_images * 16
    assert report.queries == report.test_images * 16
    assert report.search_rate > 0
    assert report.brute_force_rate > 0


def test_both_classifiers_learned(report):
    assert 0.3 < report.head_accuracy <= 1
    assert 0.9 < report.memory_accuracy <= 1


def test_picture_is_written(report):
    assert report.picture.name == "digits.png"
    pixels = imread(report.picture)
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels)) > 50


def test_text_holds_the_numbers(report):
    text = str(report)
    assert f"{report.memory_accuracy:.1%}" in text
    assert f"{report.head_accuracy:.1%}" in text
    assert f"{report.vectors:,}" in text
    assert str(report.picture) in text


def test_same_seed_same_run(report, tmp_path):
    again = short_run(tmp_path)
    assert again.head_accuracy == report.head_accuracy
    assert again.memory_accuracy == report.memory_accuracy
    assert again.picture.read_bytes() == report.picture.read_bytes()


def test_brute_force_finds_the_nearest_and_differences_are_noticed():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:5]
    found = brute_force(vectors, queries, k=3)
    np.testing.assert_array_equal(found[:, 0], np.arange(5))
    require_same_neighbors(vectors, queries, found, found[:, ::-1])
    with pytest.raises(RuntimeError, match="query 4"):
        require_same_neighbors(vectors, queries, found, np.where(found == 4, 299, found))


def test_pick_shows_typical_classes_then_the_hardest():
    labels = np.arange(20) % 10
    likelihood = np.full((20, 10), -5.0)
    likelihood[np.arange(20), labels] = np.linspace(0, 1, 20)
    likelihood[7] = np.where(np.arange(10) == 2, 0, -np.inf)  # a 7 without any vote, taken for a 2
    shown = pick(likelihood, labels)
    assert len(shown) == 6
    assert shown[-1] == 7
    assert shown[-2] == 0
    assert len(set(labels[shown])) == 6


def test_votes_go_to_the_image_that_is_nearest():
    activations = np.random.default_rng(1).random((8, 5, 2, 2))
    memory = PixelMemory(dim=5)
    memory.add(activations, np.arange(8))
    nearest = votes(memory, activations[6])
    assert nearest.images[0] == 6
    assert nearest.shares.sum() == pytest.approx(1)
    assert (np.diff(nearest.shares) <= 0).all()
