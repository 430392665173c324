"""The density classifier of pyhue.estimators, against PixelMemory and against its definition."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from pyhue import PixelMemory
from pyhue.estimators import PixelDensityClassifier

NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture
def images():
    """Activations (30, 6, 5), some vectors all zero, and names of three classes."""
    rng = np.random.default_rng(0)
    X, y = rng.random((30, 6, 5)) - 0.3, rng.integers(0, 3, 30)
    X[y == 1] += 0.2
    X[::4, 2] = 0
    X[5] = 0
    return X.astype(np.float32), NAMES[y]


@pytest.mark.parametrize("normalize", [True, False])
def test_answers_are_the_memory_s(images, normalize):
    X, y = images
    classifier = PixelDensityClassifier(n_neighbors=4, normalize=normalize, eps=0.01).fit(X, y)
    memory = PixelMemory(5, normalize)
    memory.add(X, np.searchsorted(NAMES, y))
    queries = X + np.float32(0.1)
    queries[3] = 0
    found = memory.log_likelihood(queries, 4, 0.01)
    np.testing.assert_array_equal(classifier.predict(queries), NAMES[memory.predict(queries, 4, 0.01)])
    np.testing.assert_array_equal(
        classifier.decision_function(queries), np.maximum(found, -(2.0**127) * (2 - 2**-23))
    )
    shares = classifier.predict_proba(queries)
    votes = np.exp(found)
    expected = np.full_like(votes, 1 / 3)
    np.divide(votes, votes.sum(axis=1, keepdims=True), out=expected, where=votes.any(axis=1, keepdims=True))
    np.testing.assert_allclose(shares, expected, rtol=1e-9)
    assert list(classifier.classes_) == list(NAMES)


def test_single_vectors_are_images_of_one_pixel():
    X, y = load_iris(return_X_y=True)
    flat, deep = PixelDensityClassifier().fit(X, y), PixelDensityClassifier().fit(X[:, None], y)
    np.testing.assert_array_equal(flat.predict_proba(X), deep.predict_proba(X[:, None]))
    assert flat.n_features_in_ == deep.n_features_in_ == 4


def test_parts_are_the_whole(images):
    X, y = images
    whole, parts = PixelDensityClassifier().fit(X, y), PixelDensityClassifier()
    order = np.argsort(y, kind="stable")  # classes come one after the other
    for part in np.array_split(order, 4):
        parts.partial_fit(X[part], y[part], classes=["cat", "bee", "ant"])
        assert parts.predict_proba(X).shape == (30, 3)
    np.testing.assert_array_equal(parts.predict(X), whole.predict(X))
    np.testing.assert_array_equal(parts.fit(X, y).decision_function(X), whole.decision_function(X))


def test_a_class_that_has_not_come_is_least_likely(images):
    X, y = images
    some = PixelDensityClassifier().partial_fit(X[y != "bee"], y[y != "bee"], classes=NAMES)
    assert (some.decision_function(X)[:, 1] < -3e38).all()
    assert (some.predict_proba(X)[np.arange(30) != 5, 1] == 0).all()


def others_predict(classifier, X, y, sample):
    """By a classifier that never saw the sample."""
    others = np.arange(len(X)) != sample
    fresh = PixelDensityClassifier(**classifier.get_params())
    fresh.partial_fit(X[others], y[others], classes=classifier.classes_)
    return fresh.predict(X[sample : sample + 1])[0]


@pytest.mark.parametrize("settings", [{}, {"normalize": False}, {"n_neighbors": 200, "eps": 0.05}])
def test_leave_one_out(images, settings):
    X, y = images
    y = np.where(np.arange(30) == 7, "dog", y)  # the only one of its class
    classifier = PixelDensityClassifier(**{"n_neighbors": 3} | settings).fit(X, y)
    expected = [others_predict(classifier, X, y, sample) for sample in range(30)]
    np.testing.assert_array_equal(classifier.leave_one_out_predict(), expected)
    assert classifier.leave_one_out_score() == pytest.approx(np.mean(expected == y))


def test_leave_one_out_of_images_of_several_sizes(images):
    X, y = images
    classifier = PixelDensityClassifier(n_neighbors=3).fit(X[:20], y[:20])
    classifier.partial_fit(X[20:, :2], y[20:])
    for sample in (3, 25):
        fresh = PixelDensityClassifier(n_neighbors=3)
        for part, pixels in ((range(20), 6), (range(20, 30), 2)):
            others = [row for row in part if row != sample]
            fresh.partial_fit(X[others, :pixels], y[others], classes=NAMES)
        asked = X[sample : sample + 1, : 6 if sample < 20 else 2]
        assert classifier.leave_one_out_predict()[sample] == fresh.predict(asked)[0]


def test_scores_and_searches_of_scikit_learn():
    X, y = load_digits(return_X_y=True)
    assert cross_val_score(PixelDensityClassifier(), X, y, cv=3).mean() > 0.95
    found = GridSearchCV(PixelDensityClassifier(), {"n_neighbors": [1, 200]}, cv=2).fit(X[:400], y[:400])
    assert found.best_params_ == {"n_neighbors": 1}
    two = y < 2
    binary = PixelDensityClassifier(n_neighbors=1).fit(X[two][::2], y[two][::2])
    decision = binary.decision_function(X[two])
    assert decision.shape == (two.sum(),)
    assert np.isfinite(decision).all()
    assert roc_auc_score(y[two], decision) > 0.99
    again = pickle.loads(pickle.dumps(binary))
    np.testing.assert_array_equal(again.decision_function(X[two]), decision)


def test_tensors():
    torch = pytest.importorskip("torch")
    X = np.random.default_rng(0).random((6, 4, 3), np.float32)
    classifier = PixelDensityClassifier().fit(torch.from_numpy(X), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(classifier.predict(torch.from_numpy(X)), classifier.predict(X))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, y: PixelDensityClassifier().fit(X, None), "y: requires y"),
        (lambda X, y: PixelDensityClassifier().fit(X, y[:-1]), "inconsistent numbers of samples"),
        (lambda X, y: PixelDensityClassifier().fit(X[..., None], y), "X: expected .* got 4 dimensions"),
        (lambda X, y: PixelDensityClassifier().partial_fit(X, y), "classes: expected all labels"),
        (
            lambda X, y: PixelDensityClassifier().partial_fit(X, y, classes=["ant"]),
            "y: expected labels among",
        ),
        (
            lambda X, y: PixelDensityClassifier().fit(X, y).partial_fit(X, y, classes=["ant"]),
            "those of the first",
        ),
        (lambda X, y: PixelDensityClassifier().fit(X, y).predict(X[:, :, 1:]), "is expecting 5 features"),
        (lambda X, y: PixelDensityClassifier(eps=0.0).fit(X, y).predict(X), "eps: expected a positive"),
        (lambda X, y: PixelDensityClassifier(n_neighbors=0).fit(X, y).predict(X), "k: expected at least 1"),
    ],
)
def test_wrong_arguments_are_named(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(*images)
