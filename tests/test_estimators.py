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


@pytest.mark.parametrize("name", DATA)
def test_radius_neighbors_are_brute_force_s(name):
    X = load(name).astype(np.float32)
    fitted, queries = X[::2], X[1::2]
    exact = cdist(fitted, fitted)
    radius = float(np.quantile(exact, 0.03)) + 1e-3  # between two distances
    ours = ExactNeighbors(radius=radius).fit(fitted)
    theirs = NearestNeighbors(radius=radius, algorithm="brute").fit(fitted)
    for asked in (queries, None):
        distances, indices = ours.radius_neighbors(asked)
        expected = theirs.radius_neighbors(asked, sort_results=True)
        assert (distances.dtype, indices.dtype, len(indices)) == (object, object, len(expected[1]))
        for row in range(len(indices)):
            np.testing.assert_allclose(distances[row], expected[0][row], rtol=1e-5, atol=1e-4)
            assert set(indices[row]) == set(expected[1][row])
            assert (np.diff(distances[row]) >= 0).all()
        np.testing.assert_array_equal(
            np.concatenate(ours.radius_neighbors(asked, return_distance=False)), np.concatenate(indices)
        )
        for mode in ("connectivity", "distance"):
            graphs = [of.radius_neighbors_graph(asked, mode=mode).toarray() for of in (ours, theirs)]
            np.testing.assert_allclose(*graphs, rtol=1e-5, atol=1e-4)


def test_what_lies_at_the_radius_is_within():
    fitted = ExactNeighbors().fit([[0.0], [3.0], [3.0], [4.0]])
    distances, indices = fitted.radius_neighbors([[0.0], [-9.0]], radius=3)
    assert [part.tolist() for part in indices] == [[0, 1, 2], []]
    assert [part.tolist() for part in distances] == [[0, 3, 3], []]
    assert [part.tolist() for part in fitted.radius_neighbors(radius=0)[1]] == [[], [2], [1], []]
    assert fitted.radius_neighbors_graph(radius=np.inf).nnz == 12
    assert fitted.radius_neighbors_graph([[99.0]]).nnz == 0


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
    expected = DBSCAN(eps=3.0).fit_predict(X)
    np.testing.assert_array_equal(labels, expected)
    graph = ExactNeighbors(radius=3.0).fit(X).radius_neighbors_graph(X, mode="distance")
    np.testing.assert_array_equal(DBSCAN(eps=3.0, metric="precomputed").fit_predict(graph), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: ExactNeighbors().fit(X).kneighbors(X, 31), "n_neighbors: expected at most 30"),
        (lambda X: ExactNeighbors().fit(X).kneighbors(None, 30), "n_neighbors: expected at most 29"),
        (lambda X: ExactNeighbors(n_neighbors=0).fit(X).kneighbors(X), "n_neighbors: expected at least 1"),
        (lambda X: ExactNeighbors().fit(X).kneighbors_graph(X, mode="near"), "mode: expected"),
        (lambda X: ExactNeighbors().fit(X).radius_neighbors_graph(X, mode="near"), "mode: expected"),
        (lambda X: ExactNeighborsTransformer(mode="near").fit(X), "mode: expected"),
        (
            lambda X: ExactNeighbors().fit(X).radius_neighbors(X, -1.0),
            "radius: expected a number of at least 0",
        ),
        (lambda X: ExactNeighbors(radius="1").fit(X).radius_neighbors(X), "radius: expected a number"),
        (lambda X: ExactNeighbors().fit(X).radius_neighbors(X, float("nan")), "radius: expected a number"),
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
