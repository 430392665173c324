"""PixelMemory: what it stores, what it returns, what it says."""

import copy
import pickle

import numpy as np
import pytest
from families import draw
from reference import assert_exact, assert_same, density64, exact_search, memory_of

import pyhue


def _activations(images=6, pixels=9, dim=16, seed=0):
    return draw("relu60", images * pixels, dim, seed).reshape(images, pixels, dim)


@pytest.fixture
def memory():
    memory = pyhue.PixelMemory(dim=16)
    memory.add(_activations(), [0, 1, 4, 1, 0, 4])
    return memory


def test_a_new_memory_is_empty():
    memory = pyhue.PixelMemory(3)
    assert len(memory) == memory.num_classes == 0
    assert memory.normalize is True
    assert memory.dim == 3
    assert memory.vectors.shape == (0, 3)
    for part in (memory.labels, memory.images, memory.pixels, memory.class_counts):
        assert part.shape == (0,)
        assert part.dtype == np.int64


def test_one_entry_for_each_stored_vector(memory):
    assert len(memory) == 54
    assert memory.labels.tolist() == np.repeat([0, 1, 4, 1, 0, 4], 9).tolist()
    assert memory.images.tolist() == np.repeat(range(6), 9).tolist()
    assert memory.pixels.tolist() == list(range(9)) * 6
    assert memory.class_counts.tolist() == [18, 18, 18]
    assert memory.classes.tolist() == [0, 1, 4]
    assert memory.num_classes == 3
    memory.add(_activations(2), [2, 7])
    assert memory.images[54:].tolist() == [6] * 9 + [7] * 9
    assert memory.pixels[54:].tolist() == list(range(9)) * 2
    assert memory.class_counts.tolist() == [18, 18, 9, 18, 9]
    assert memory.classes.tolist() == [0, 1, 2, 4, 7]


def test_stored_vectors(memory):
    given = _activations().reshape(-1, 16).astype(np.float64)
    lengths = np.sqrt((given**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(memory.vectors, given / np.where(lengths > 0, lengths, 1), rtol=1e-7)
    assert memory.vectors.dtype == np.float32
    raw = pyhue.PixelMemory(16, normalize=False)
    raw.add(_activations(), [0] * 6)
    np.testing.assert_array_equal(raw.vectors, given.astype(np.float32))


def test_what_is_handed_out_is_read_only_and_stays(memory):
    names = ("vectors", "labels", "images", "pixels", "classes", "class_counts")
    before = {name: (getattr(memory, name), getattr(memory, name).copy()) for name in names}
    for name in names:
        with pytest.raises(ValueError, match="read-only"):
            getattr(memory, name)[0] = 0
    for _ in range(6):
        memory.add(_activations(seed=1), [3] * 6)
    for view, values in before.values():
        np.testing.assert_array_equal(view, values)


def test_the_memory_keeps_a_copy():
    activations = _activations()
    memory = pyhue.PixelMemory(16, normalize=False)
    memory.add(activations, [0] * 6)
    expected = memory.vectors.copy()
    activations[:] = -1
    np.testing.assert_array_equal(memory.vectors, expected)


def test_pixel_vectors_of_feature_maps():
    maps = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    vectors = pyhue.pixel_vectors(maps)
    assert vectors.shape == (2, 20, 3)
    assert vectors.dtype == maps.dtype
    for y in range(4):
        for x in range(5):
            np.testing.assert_array_equal(vectors[:, y * 5 + x], maps[:, :, y, x])
    assert np.shares_memory(vectors, maps)
    np.testing.assert_array_equal(pyhue.pixel_vectors(maps.tolist()), vectors)
    with pytest.raises(ValueError, match=r"feature_maps: .*\(2, 3, 4\)"):
        pyhue.pixel_vectors(maps[..., 0])


def test_feature_maps_equal_pixel_vectors():
    maps = _activations(6, 20, 16).swapaxes(1, 2).reshape(6, 16, 4, 5)
    vectors = pyhue.pixel_vectors(maps)
    by_maps, by_vectors = pyhue.PixelMemory(16), pyhue.PixelMemory(16)
    by_maps.add(maps, [0, 1, 2, 0, 1, 2])
    by_vectors.add(vectors, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(by_maps.vectors, by_vectors.vectors)
    np.testing.assert_array_equal(by_maps.pixels, by_vectors.pixels)
    queries = maps[:2] + np.float32(0.1)
    np.testing.assert_array_equal(
        by_maps.log_likelihood(queries), by_maps.log_likelihood(pyhue.pixel_vectors(queries))
    )


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_labels_of_any_integer_dtype(dtype):
    memory = pyhue.PixelMemory(16)
    memory.add(_activations(), np.array([0, 100, 3, 3, 0, 7], dtype))
    assert memory.labels[::9].tolist() == [0, 100, 3, 3, 0, 7]
    assert memory.classes.tolist() == [0, 3, 7, 100]
    assert memory.num_classes == 4
    assert memory.class_counts.tolist() == [18, 18, 9, 9]
    predicted = memory.predict(_activations())
    assert predicted.dtype == np.int64
    assert predicted.tolist() == [0, 100, 3, 3, 0, 7]


def test_zero_vectors_stay_zero(isa):
    activations = _activations()
    activations[1, 2] = activations[3] = 0
    memory = pyhue.PixelMemory(16)
    memory.add(activations, [0, 1, 2, 3, 4, 5])
    zero = np.flatnonzero(~memory.vectors.any(axis=1))
    assert zero.tolist() == [11, *range(27, 36)]
    lengths = np.linalg.norm(memory.vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.delete(lengths, zero), 1, rtol=1e-6)
    assert memory.class_counts.tolist() == [9, 8, 9, 0, 9, 9]


def test_normalizing_the_smallest_and_largest_floats():
    directions = np.eye(4)
    for scale in (5e-324, 1e-310, 1e-45, 1e-30, 1, 1e30, 1e300, 1.7e308):
        memory = memory_of(directions * scale, normalize=True)
        np.testing.assert_array_equal(memory.vectors, directions)
        np.testing.assert_array_equal(memory.search(directions * scale, 1).indices, [[0], [1], [2], [3]])


def test_search_result_is_a_named_tuple(memory):
    result = memory.search(_activations()[0], k=3)
    assert isinstance(result, tuple)
    assert result._fields == ("distances", "indices")
    assert result.distances.dtype == np.float32
    assert result.indices.dtype == np.int64
    assert memory.search(_activations()[0, 0]).indices.shape == (10,)
    assert memory.search(_activations()[0, 0].tolist()).indices.shape == (10,)


def test_likelihood_by_hand(isa):
    """Two pixels, k = 2, worked out on paper; class 2 has no neighbour, and there is no class 1."""
    memory = pyhue.PixelMemory(2, normalize=False)
    memory.add([[[0.0, 0.0], [2.0, 0.0], [9.0, 0.0]], [[3.0, 0.0], [50.0, 0.0], [60.0, 0.0]]], [0, 3])
    memory.add([[[-80.0, 0.0]]], [2])
    query = np.array([[[1.0, 1.0], [3.0, 1.0]]])
    # Pixel 1: D = 2, 2 (both class 0), alpha^2 = 2. Pixel 2: D = 1 (class 3), 2 (class 0), alpha^2 = 1.
    expected = [[np.log((2 * np.exp(-2 / 3) + np.exp(-2 / 2)) / 3), -np.inf, np.log(np.exp(-1 / 2) / 3)]]
    result = memory.log_likelihood(query, k=2, eps=1.0)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    assert memory.predict(query, k=2, eps=1.0).tolist() == [0]


@pytest.mark.parametrize("k", [1, 10, 60])
def test_likelihood_and_prediction_are_the_density_of_the_neighbors(isa, threads, memory, k):
    queries = _activations(8, 5, seed=3)
    distances, indices = memory.search(queries, k)
    labels = np.where(indices >= 0, np.searchsorted(memory.classes, memory.labels[indices]), -1)
    likelihood = memory.log_likelihood(queries, k, eps=1e-4)
    np.testing.assert_array_equal(likelihood, pyhue.density(distances, labels, memory.class_counts, 1e-4))
    expected = memory.classes[likelihood.argmax(axis=1)]
    np.testing.assert_array_equal(memory.predict(queries, k, eps=1e-4), expected)
    np.testing.assert_allclose(
        likelihood, density64(distances, labels, memory.class_counts, 1e-4), rtol=1e-12, atol=1e-12
    )


def test_no_images(memory):
    assert memory.log_likelihood(np.zeros((0, 9, 16))).shape == (0, 3)
    assert memory.predict(np.zeros((0, 9, 16))).shape == (0,)
    assert memory.search(np.zeros((0, 16))).indices.shape == (0, 10)
    memory.add(np.zeros((0, 9, 16)), [])
    memory.add(np.zeros((0, 16, 3, 3)), np.zeros(0, np.int32))
    assert len(memory) == 54


def test_images_without_pixels():
    memory = pyhue.PixelMemory(4)
    memory.add(np.zeros((2, 0, 4)), [5, 6])
    assert len(memory) == memory.num_classes == 0
    memory.add(np.ones((1, 2, 4)), [1])
    assert memory.classes.tolist() == [1]
    assert memory.images.tolist() == [2, 2]
    assert np.isneginf(memory.log_likelihood(np.zeros((1, 0, 4)))).all()


def test_repr(memory):
    expected = "PixelMemory(dim=16, normalize=True, dtype='float32'): 54 vectors of 6 images, 3 classes"
    assert repr(memory) == expected


def test_copies(memory):
    queries = _activations(seed=5)
    expected = memory.search(queries)
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert_same(other.search(queries), expected)
        other.add(queries, [9] * 6)
        assert len(memory) == 54


def test_adding_costs_amortised_constant_time():
    """Counted, not timed: the stored vectors move to a new place a logarithmic number of times."""
    memory = pyhue.PixelMemory(4, normalize=False)
    places = []
    for i in range(3000):
        memory.add(np.full((1, 1, 4), i, np.float32), [0])
        place = tuple(part.__array_interface__["data"][0] for part in (memory.vectors, memory.labels))
        if not places or places[-1] != place:
            places.append(place)
    assert len(places) <= 2 * np.log2(3000)
    np.testing.assert_array_equal(memory.vectors[:, 0], np.arange(3000))


def test_searching_the_memory_that_grew_one_by_one(isa):
    vectors = draw("lattice", 200, 5)
    memory = pyhue.PixelMemory(5, normalize=False)
    for count, vector in enumerate(vectors, start=1):
        memory.add(vector[None, None], [0])
        assert_exact(memory.search(vectors[:2], 3), vectors[:2], vectors[:count])


def test_raw_search_of_normalized_vectors_equals_normalized_search(memory):
    raw = memory_of(memory.vectors)
    queries = memory.vectors[::5]
    assert_exact(raw.search(queries, 7), queries, memory.vectors)
    assert (exact_search(queries, memory.vectors, 1)[1][:, 0] == np.arange(0, 54, 5)).all()
