"""Exact neighbours as scikit-learn's estimators, against its brute force on its own data."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.spatial.distance import cdist
from sklearn import datasets
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from pyhue.estimators import ExactNeighbors, ExactNeighborsTransformer, PixelDensityClassifier

DATA = ("digits", "iris", "wine", "breast_cancer")
ESTIMATORS = [
    ExactNeighbors(),
    ExactNeighbors(dtype="bfloat16"),
    ExactNeighborsTransformer(),
    ExactNeighborsTransformer(mode="connectivity"),
    PixelDensityClassifier(),
    PixelDensityClassifier(normalize=False, dtype="bfloat16"),
]


def load(name):
    """Scaled, but for the digits, whose squared distances are whole numbers that float32 holds."""
    X = getattr(datasets, f"load_{name}")().data
    return X if name == "digits" else StandardScaler().fit_transform(X)


def assert_same_neighbors(queries, vectors, found, expected):
    """Equally near by distances in float64, but for what rounding to float32 changes."""
    exact = cdist(queries, vectors)
    ours, theirs = (np.sort(np.take_along_axis(exact, of, axis=1), axis=1) for of in (found, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in found.tolist())


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_scikit_learn_s_own_checks(estimator):
    results = check_estimator(estimator, on_skip=None)
    assert len(results) > 30
    skipped = {result["check_name"] for result in results if result["status"] != "passed"}
    assert skipped <= {"check_array_api_input", "check_classifier_data_not_an_array"}  # a variable; pandas


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kneighbors_are_brute_force_s(name, dtype):
    X = load(name).astype(dtype)
    fitted, queries = X[::2], X[1::2]
    ours, theirs = ExactNeighbors().fit(fitted), NearestNeighbors(algorithm="brute").fit(fitted)
    for arguments in ((queries,), (queries, 1), (None, 7), ()):
        distances, indices = ours.kneighbors(*arguments)
        expected = theirs.kneighbors(*arguments)
        asked = queries if arguments and arguments[0] is not None else fitted
        assert_same_neighbors(asked, fitted, indices, expected[1])
        np.testing.assert_allclose(distances, expected[0], rtol=1e-5, atol=2e-6 * np.linalg.norm(X))
        assert (distances.dtype, indices.dtype) == (np.float64, np.int64)
        np.testing.assert_array_equal(ours.kneighbors(*arguments, return_distance=False), indices)


@pytest.mark.parametrize("copies", [1, 3, 9])
def test_fitted_vectors_are_not_their_own_neighbours(copies):
    """Nor lost where more copies than neighbours come before them; the lower rows win, as ever."""
    X = np.tile(np.random.default_rng(0).random((5, 3)), (copies, 1))
    distances, indices = ExactNeighbors(n_neighbors=3).fit(X).kneighbors()
    exact = cdist(X.astype(np.float32), X.astype(np.float32))
    np.fill_diagonal(exact, np.inf)
    np.testing.assert_array_equal(indices, np.argsort(exact, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :3], rtol=1e-6)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
def test_graphs(mode):
    X = load("iris")
    fitted, queries = X[::2], X[1::2]
    ours, theirs = ExactNeighbors().fit(fitted), NearestNeighbors(algorithm="brute").fit(fitted)
    for asked in (queries, None):
        graph, expected = (of.kneighbors_graph(asked, 3, mode) for of in (ours, theirs))
        assert (graph.shape, graph.dtype, graph.nnz) == (expected.shape, expected.dtype, expected.nnz)
        np.testing.assert_allclose(np.sort(graph.toarray()), np.sort(expected.toarray()), atol=1e-5)
        np.testing.assert_array_equal(graph.indices.reshape(-1, 3), ours.kneighbors(asked, 3)[1])
    transformed = ExactNeighborsTransformer(mode=mode).fit(fitted).transform(queries)
    count = KNeighborsTransformer(mode=mode, algorithm="brute").fit(fitted).transform(queries).nnz
    assert (transformed != ours.kneighbors_graph(queries, count // len(queries), mode)).nnz == 0


def test_pipelines():
    X, y = datasets.load_digits(return_X_y=True)
    classifier = KNeighborsClassifier(n_neighbors=5, metric="precomputed")
    pipeline = make_pipeline(ExactNeighborsTransformer(n_neighbors=5), classifier).fit(X[:900], y[:900])
    expected = KNeighborsClassifier(n_neighbors=5, algorithm="brute").fit(X[:900], y[:900])
    assert np.mean(pipeline.predict(X[900:]) == expected.predict(X[900:])) > 0.99  # ties of votes aside


def test_t_sne_and_dbscan_take_the_graph():
    X = datasets.make_blobs(120, centers=3, n_features=5, random_state=0)[0]
    graph = ExactNeighborsTransformer(n_neighbors=40).fit_transform(X)
    embedded = TSNE(perplexity=10, metric="precomputed", init="random", max_iter=250).fit_transform(graph)
    assert embedded.shape == (120, 2)
    labels = DBSCAN(eps=3.0, metric="precomputed").fit_predict(graph)
    np.testing.assert_array_equal(labels, DBSCAN(eps=3.0).fit_predict(X))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: ExactNeighbors().fit(X).kneighbors(X, 31), "n_neighbors: expected at most 30"),
        (lambda X: ExactNeighbors().fit(X).kneighbors(None, 30), "n_neighbors: expected at most 29"),
        (lambda X: ExactNeighbors(n_neighbors=0).fit(X).kneighbors(X), "n_neighbors: expected at least 1"),
        (lambda X: ExactNeighbors().fit(X).kneighbors_graph(X, mode="near"), "mode: expected"),
        (lambda X: ExactNeighborsTransformer(mode="near").fit(X), "mode: expected"),
        (lambda X: ExactNeighbors(dtype="int8").fit(X), "dtype: expected"),
        (lambda X: ExactNeighbors().fit(1e300 * X), "too large for dtype"),
        (lambda X: ExactNeighbors().fit(np.ones((3, 4097))), "dim: expected at most 4096"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message), np.errstate(over="ignore"):
        call(np.random.default_rng(0).random((30, 4)) + 1)


def test_copies_answer_alike():
    X = load("iris")
    fitted = ExactNeighbors(n_neighbors=4).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.kneighbors(X)[1], fitted.kneighbors(X)[1])
    assert clone(fitted).get_params() == fitted.get_params()
