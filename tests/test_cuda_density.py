"""The CUDA kernels of density and of query rows, emulated and on a GPU, against the CPU's own."""

import numpy as np
import pytest
from cuda_kernels import kernels
from families import FAMILIES, draw

import pyhue
from pyhue._rows import vector_rows


@pytest.fixture(params=["emulated", "gpu"])
def cuda(request):
    return kernels(request.param)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("normalize", [False, True])
def test_rows_to_the_bit(cuda, family, normalize):
    for dtype in (np.float32, np.float64):
        for dim in (1, 7, 8, 9, 33, 100):
            rows = draw(family, 11, dim).astype(dtype)
            if dtype == np.float64:
                rows *= np.linspace(0.1, 0.7, 11)[:, None]
                rows[3] *= 1e-250 if normalize else 1
            expected = vector_rows(rows, "rows", normalize)
            np.testing.assert_array_equal(
                cuda.store_rows(rows, normalize).view(np.uint32), expected.view(np.uint32)
            )


def test_rows_that_are_not_finite(cuda):
    rows = draw("normal", 5, 40).astype(np.float64)
    rows[1, 39], rows[2, 0], rows[3, 5] = np.nan, -np.inf, 1e300
    assert np.isnan(cuda.store_rows(rows, False)).all(1).tolist() == [False, True, True, True, False]
    assert np.isnan(cuda.store_rows(rows, True)).all(1).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 49, 10), (2, 5, 40), (0, 3, 2), (2, 0, 3)])
def test_density(cuda, shape):
    rng = np.random.default_rng(0)
    distances = rng.random(shape).astype(np.float32) * 10 ** rng.uniform(-20, 20, shape).astype(np.float32)
    labels = rng.integers(-1, 7, shape)
    counts = np.arange(1, 8)
    expected = pyhue.density(distances, labels, counts)
    np.testing.assert_allclose(cuda.density(distances, labels, counts, 1e-8), expected, rtol=1e-13)


def test_density_of_infinite_and_missing_distances(cuda):
    distances = np.float32([[[np.inf, np.inf]], [[1.0, np.inf]], [[0.0, 0.0]], [[np.nan, np.nan]]])
    labels = np.array([[[0, 1]], [[1, -1]], [[-1, -1]], [[-1, -1]]])
    counts = np.array([3, 4])
    ours = cuda.density(distances, labels, counts, 1e-8)
    np.testing.assert_allclose(ours[:3], pyhue.density(distances[:3], labels[:3], counts), rtol=1e-13)
    assert np.isnan(ours[3]).all()
