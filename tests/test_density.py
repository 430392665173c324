"""Density against equation 2 as it is written, and where that formula gives out."""

import numpy as np
import pytest
from families import draw
from hypothesis import given
from hypothesis import strategies as st
from reference import density64, memory_of

import pyhue


def _neighbors(images=5, pixels=7, k=10, classes=6, missing=0.1, seed=0):
    """Random neighbours: sorted distances of ordinary size, labels with some missing at the end."""
    rng = np.random.default_rng(seed)
    distances = np.sort(rng.uniform(0.1, 2, (images, pixels, k)), axis=-1).astype(np.float32)
    labels = rng.integers(0, classes, distances.shape)
    gone = np.sort(rng.random(distances.shape) < missing, axis=-1)
    return (
        np.where(gone, np.float32(np.inf), distances),
        np.where(gone, -1, labels),
        np.arange(1, classes + 1),
    )


@pytest.mark.parametrize("eps", [1e-30, 1e-8, 1e-3, 1, 1e3])
@pytest.mark.parametrize("missing", [0, 0.1, 0.9])
@pytest.mark.parametrize("k", [1, 2, 10, 100])
def test_equals_equation_2(threads, k, missing, eps):
    distances, labels, counts = _neighbors(k=k, missing=missing)
    result = pyhue.density(distances, labels, counts, eps)
    assert result.shape == (5, 6)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, density64(distances, labels, counts, eps), rtol=1e-12, atol=1e-12)


def test_default_eps():
    distances, labels, counts = _neighbors()
    distances[:, :, 0] = 0
    np.testing.assert_array_equal(
        pyhue.density(distances, labels, counts), pyhue.density(distances, labels, counts, eps=1e-8)
    )


@given(
    images=st.integers(0, 4),
    pixels=st.integers(0, 5),
    k=st.integers(0, 6),
    classes=st.integers(1, 5),
    missing=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_size(images, pixels, k, classes, missing, seed):
    distances, labels, counts = _neighbors(images, pixels, k, classes, missing, seed)
    result = pyhue.density(distances, labels, counts)
    np.testing.assert_allclose(result, density64(distances, labels, counts, 1e-8), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("leading", [(), (5,), (5, 1), (1, 5), (5, 2, 3), (0, 4)])
def test_leading_shape(leading):
    images = int(np.prod(leading))
    distances, labels, counts = _neighbors(images)
    shape = (*leading, 7, 10)
    result = pyhue.density(distances.reshape(shape), labels.reshape(shape), counts)
    assert result.shape == (*leading, 6)
    np.testing.assert_array_equal(result.reshape(images, 6), pyhue.density(distances, labels, counts))


def test_minus_infinity_for_a_class_without_neighbors_only():
    distances, labels, _ = _neighbors(classes=4)
    counts = np.array([3, 1, 4, 1, 5, 0])
    result = pyhue.density(distances, labels, counts)
    assert np.isfinite(result[:, :4]).all()
    assert np.isneginf(result[:, 4:]).all()
    nobody = pyhue.density(distances, np.full_like(labels, -1), counts)
    assert np.isneginf(nobody).all()
    assert np.isneginf(pyhue.density(np.zeros((3, 0)), np.zeros((3, 0), int), counts)).all()


def test_missing_neighbors_do_not_count():
    """Whatever distance stands beside -1, the nearest neighbour that is there sets the bandwidth."""
    distances, labels, counts = _neighbors(missing=0.5)
    expected = pyhue.density(distances, labels, counts)
    for filler in (0, 1e-3, 7, 3e38):
        filled = np.where(labels < 0, np.float32(filler), distances)
        np.testing.assert_array_equal(pyhue.density(filled, labels, counts), expected)


@pytest.mark.parametrize("far", [1e-4, 1, 1e6, 3e38, np.inf])
@pytest.mark.parametrize("eps", [5e-324, 1e-300, 1e-30, 1e-8])
def test_a_duplicate_does_not_silence_the_others(far, eps):
    """With alpha = 0 the formula underflows to p = 0 for every other class; logarithms do not."""
    distances, labels = np.array([[0, far, far]], np.float32), np.array([[0, 1, 2]])
    result = pyhue.density(distances, labels, [2, 3, 5, 7], eps)
    assert result[0] == -np.log(2)
    assert np.isfinite(result[:3]).all()
    assert result[0] >= result[1] >= result[2]
    assert np.isneginf(result[3])
    if far == 1 and eps == 1e-8:
        np.testing.assert_allclose(result[1:3], -1e8 - np.log([3, 5]), rtol=1e-15)
        assert np.isneginf(density64(distances[None], labels[None], np.array([2, 3, 5, 7]), eps)[0, 1])


def test_the_nearer_far_class_wins():
    distances, labels = np.array([[0, 1, 1.25, 1.25, 1.5]], np.float32), np.array([[3, 1, 0, 0, 2]])
    result = pyhue.density(distances, labels, [1, 1, 1, 1])
    assert np.argsort(-result).tolist() == [3, 1, 0, 2]


def test_overflowed_distances():
    one_far = pyhue.density(np.array([[1, np.inf]], np.float32), [[0, 1]], [1, 1])
    assert one_far[0] == pytest.approx(-1)
    assert one_far[1] < -1e300
    all_far = pyhue.density(np.array([[np.inf, np.inf]], np.float32), [[0, 1]], [1, 2])
    np.testing.assert_allclose(all_far, [-1, -1 - np.log(2)])
    np.testing.assert_array_equal(pyhue.density([[1e300, 1e301]], [[0, 1]], [1, 2]), all_far)


def test_all_zero_distances_vote_by_count():
    result = pyhue.density(np.zeros((4, 5)), np.tile([0, 0, 1, 1, 1], (4, 1)), [16, 3])
    np.testing.assert_allclose(result, np.log([8 / 16, 12 / 3]), rtol=1e-15)


@given(seed=st.integers(0, 2**31), missing=st.sampled_from([0, 0.3]))
def test_order_does_not_matter(seed, missing):
    distances, labels, counts = _neighbors(seed=seed, missing=missing)
    expected = pyhue.density(distances, labels, counts)
    rng = np.random.default_rng(seed)
    pixels, neighbors, classes = (rng.permutation(size) for size in (7, 10, 6))
    same = pyhue.density(distances[:, pixels][..., neighbors], labels[:, pixels][..., neighbors], counts)
    np.testing.assert_allclose(same, expected, rtol=1e-12, atol=1e-12)
    renamed = np.where(labels < 0, -1, np.argsort(classes)[labels])
    np.testing.assert_allclose(
        pyhue.density(distances, renamed, counts[classes]), expected[:, classes], rtol=1e-12
    )
    images = rng.permutation(5)
    np.testing.assert_array_equal(pyhue.density(distances[images], labels[images], counts), expected[images])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("label_dtype", [np.int8, np.int16, np.int32, np.int64])
def test_dtypes_and_strides(dtype, label_dtype):
    distances, labels, counts = _neighbors()
    distances = distances.astype(dtype)
    expected = pyhue.density(distances.astype(np.float32), labels, counts)
    labels = labels.astype(label_dtype)
    for d, c in [(distances, labels), (np.asfortranarray(distances), labels[::-1].copy()[::-1])]:
        np.testing.assert_array_equal(pyhue.density(d, c, counts.astype(np.uint16)), expected)
    np.testing.assert_array_equal(
        pyhue.density(distances[..., ::-1, ::2], labels[..., ::-1, ::2], counts.tolist()),
        pyhue.density(distances[..., ::-1, ::2].copy(), labels[..., ::-1, ::2].copy(), counts),
    )


def test_neighbors_of_another_search():
    """Arrays as FAISS returns them: float32 squared distances, int64 indices, flat over the pixels."""
    vectors, queries = draw("normal", 60, 8), draw("normal", 12, 8, seed=1)
    classes, counts = np.repeat([0, 1, 2], 20), np.array([20, 20, 20])
    all_distances = ((queries[:, None].astype(np.float64) - vectors) ** 2).sum(axis=-1)
    indices = np.argsort(all_distances, axis=1)[:, :5]
    distances = np.take_along_axis(all_distances, indices, axis=1).astype(np.float32)
    result = pyhue.density(distances.reshape(3, 4, 5), classes[indices].reshape(3, 4, 5), counts, eps=1e-2)
    memory = pyhue.PixelMemory(8, normalize=False)
    memory.add(vectors.reshape(3, 20, 8), [0, 1, 2])
    found = memory.log_likelihood(queries.reshape(3, 4, 8), k=5, eps=1e-2)
    np.testing.assert_allclose(result, found, rtol=1e-4, atol=1e-4)
    assert memory_of(vectors).search(queries, 5).indices.tolist() == indices.tolist()


def test_many_images(threads):
    distances, labels, counts = _neighbors(images=300)
    result = pyhue.density(distances, labels, counts)
    single = [pyhue.density(d, c, counts) for d, c in zip(distances, labels, strict=True)]
    np.testing.assert_array_equal(result, single)


OK = (np.ones((4, 3, 2)), np.zeros((4, 3, 2), int), [1, 1])
BAD = {
    "integer distances": ((OK[1], *OK[1:]), TypeError, "distances: expected one of float16"),
    "one dimension": (
        (np.ones(3), np.zeros(3, int), [1]),
        ValueError,
        r"distances: expected shape \(..., pixels, k\)",
    ),
    "negative distance": ((-OK[0], *OK[1:]), ValueError, "distances: expected non-negative values"),
    "NaN distance": ((OK[0] * np.nan, *OK[1:]), ValueError, "distances: expected non-negative values"),
    "float labels": ((OK[0], OK[0], [1, 1]), TypeError, "neighbor_labels: expected integers, got float64"),
    "shapes differ": (
        (OK[0], OK[1][:3], [1, 1]),
        ValueError,
        r"neighbor_labels: .*\(4, 3, 2\), got \(3, 3, 2\)",
    ),
    "label too large": (
        (OK[0], OK[1] + 2, [1, 1]),
        ValueError,
        "neighbor_labels: expected -1 to 1, got 2 to 2",
    ),
    "label too small": ((OK[0], OK[1] - 2, [1, 1]), ValueError, "neighbor_labels: expected -1 to 1, got -2"),
    "no classes": ((*OK[:2], np.zeros(0, int)), ValueError, "neighbor_labels: expected -1 to -1"),
    "float counts": ((*OK[:2], [1.0, 1.0]), TypeError, "class_counts: expected integers, got float64"),
    "negative count": (
        (*OK[:2], [1, -1]),
        ValueError,
        "class_counts: expected one dimension of non-negative",
    ),
    "two dimensions": ((*OK[:2], [[1, 1]]), ValueError, "class_counts: expected one dimension"),
    "count 0": ((*OK[:2], [0, 1]), ValueError, "class_counts: a class that has neighbours has count 0"),
    "eps 0": ((*OK, 0), ValueError, "eps: expected a positive number, got 0"),
    "eps negative": ((*OK, -1e-8), ValueError, "eps: expected a positive number"),
    "eps NaN": ((*OK, np.nan), ValueError, "eps: expected a positive number, got nan"),
    "eps infinite": ((*OK, np.inf), ValueError, "eps: expected a positive number, got inf"),
    "eps text": ((*OK, "small"), TypeError, "eps: expected a number, got str"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors(case):
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=message):
        pyhue.density(*arguments)
