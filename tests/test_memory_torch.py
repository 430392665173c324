"""Tensors in, tensors out."""

import numpy as np
import pytest

import pyhue

torch = pytest.importorskip("torch")


def _activations(dtype=torch.float32):
    return torch.rand(4, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.fixture
def memory():
    memory = pyhue.PixelMemory(8)
    memory.add(_activations(), torch.tensor([0, 2, 1, 0]))
    return memory


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_tensors_when_queries_are(memory, dtype):
    given = _activations(dtype)
    as_numpy = given.double().numpy()
    found, expected = memory.search(given, 3), memory.search(as_numpy, 3)
    assert isinstance(found, pyhue.SearchResult)
    assert (found.distances.dtype, found.indices.dtype) == (torch.float32, torch.int64)
    assert found.distances.shape == (4, 5, 3)
    np.testing.assert_array_equal(found.distances.numpy(), expected.distances)
    np.testing.assert_array_equal(found.indices.numpy(), expected.indices)
    likelihood, classes = memory.log_likelihood(given), memory.predict(given)
    assert (likelihood.dtype, classes.dtype) == (torch.float64, torch.int64)
    np.testing.assert_array_equal(likelihood.numpy(), memory.log_likelihood(as_numpy))
    np.testing.assert_array_equal(classes.numpy(), memory.predict(as_numpy))


def test_numpy_queries_give_numpy_results(memory):
    queries = _activations().numpy()
    for result in (*memory.search(queries), memory.log_likelihood(queries), memory.predict(queries)):
        assert isinstance(result, np.ndarray)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
def test_label_dtypes(dtype):
    memory = pyhue.PixelMemory(8)
    memory.add(_activations(), torch.tensor([5, 0, 0, 9]).to(dtype))
    assert memory.labels[::5].tolist() == [5, 0, 0, 9]


def test_labels_and_activations_of_either_kind(memory):
    for activations in (_activations(), _activations().numpy()):
        for labels in (torch.tensor([0, 2, 1, 0]), np.array([0, 2, 1, 0]), [0, 2, 1, 0], (0, 2, 1, 0)):
            other = pyhue.PixelMemory(8)
            other.add(activations, labels)
            np.testing.assert_array_equal(other.vectors, memory.vectors)
            np.testing.assert_array_equal(other.labels, memory.labels)


def test_pixel_vectors_of_a_tensor():
    maps = torch.rand(2, 3, 4, 5, requires_grad=True)
    vectors = pyhue.pixel_vectors(maps)
    assert isinstance(vectors, torch.Tensor)
    assert vectors.requires_grad
    np.testing.assert_array_equal(vectors.detach().numpy(), pyhue.pixel_vectors(maps.detach().numpy()))
    channels_last = maps.detach().to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(pyhue.pixel_vectors(channels_last).numpy(), vectors.detach().numpy())
    with pytest.raises(ValueError, match=r"feature_maps: .*\(2, 3, 4\)"):
        pyhue.pixel_vectors(maps[..., 0])


def test_feature_maps_in_channels_last(memory):
    maps = _activations().swapaxes(1, 2).reshape(4, 8, 5, 1)
    for given in (maps, maps.to(memory_format=torch.channels_last), maps.bfloat16().float()):
        expected = memory.log_likelihood(pyhue.pixel_vectors(given))
        np.testing.assert_array_equal(memory.log_likelihood(given).numpy(), expected.numpy())


def test_views_that_negate_and_conjugate(memory):
    values = torch.view_as_complex(torch.rand(3, 8, 2)).conj().imag
    assert values.is_neg()
    found = memory.search(values, 2)
    np.testing.assert_array_equal(
        found.indices.numpy(), memory.search(values.resolve_neg().numpy(), 2).indices
    )


def test_density_of_tensors(memory):
    distances, indices = memory.search(_activations(), 3)
    labels = torch.from_numpy(memory.labels.copy())[indices]
    result = pyhue.density(distances, labels, memory.class_counts)
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), memory.log_likelihood(_activations(), 3).numpy())
