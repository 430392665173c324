import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhue.hue import activation_hue
from pyhue.pixel_vectors import pixel_vectors

LIBRARIES = [np.asarray, torch.from_numpy]


def formula(vectors):
    n = np.arange(vectors.shape[-1])
    phi = 2 * np.pi * n / vectors.shape[-1]
    return np.arctan2((vectors * np.sin(phi)).sum(-1), (vectors * np.cos(phi)).sum(-1))


def angle_between(a, b):
    return np.abs(np.angle(np.exp(1j * (np.asarray(a, float) - np.asarray(b, float)))))


def test_three_channels_give_rgb_hue():
    red, green, blue = np.random.default_rng(0).random((3, 500))
    expected = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
    assert angle_between(activation_hue(np.stack((red, green, blue), -1)), expected).max() < 1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(deadline=None)
@given(shape=st.lists(st.integers(1, 5), max_size=3), channels=st.integers(3, 40), seed=st.integers(0, 99))
def test_arrays(dtype, shape, channels, seed):
    vectors = np.random.default_rng(seed).random((*shape, channels)).astype(dtype)
    hue = activation_hue(vectors, axis=-1)
    assert hue.dtype == dtype
    assert hue.shape == tuple(shape)
    assert len(shape) == 3 or (hue == activation_hue(vectors)).all()
    tolerance = {np.float16: 3e-3, np.float32: 1e-4, np.float64: 1e-11}[dtype]
    length = np.abs((vectors.astype(float) * np.exp(2j * np.pi * np.arange(channels) / channels)).sum(-1))
    assert (angle_between(hue, formula(vectors.astype(float))) * np.minimum(length, 1) < tolerance).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors(dtype):
    vectors = torch.rand(4, 8, 6, generator=torch.Generator().manual_seed(0)).to(dtype).transpose(0, 2)
    hue = activation_hue(vectors)
    assert hue.dtype == dtype
    assert hue.shape == (6, 8)
    expected = formula(vectors.double().numpy())
    tolerance = {torch.bfloat16: 0.02, torch.float16: 3e-3}.get(dtype, 1e-5)
    assert angle_between(hue.double().numpy(), expected).max() < tolerance


def test_tensor_gradient():
    vectors = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation_hue, (vectors,))


def test_strided_arrays():
    vectors = np.random.default_rng(1).random((7, 10))
    assert (activation_hue(vectors[::2, ::-2]) == activation_hue(vectors[::2, ::-2].copy())).all()


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (np.zeros((2, 3), int), TypeError, "vectors: expected a floating"),
        ([[0.0, 1.0]], TypeError, "vectors: expected a floating"),
        (torch.zeros(2, 3, dtype=torch.int64), TypeError, "vectors: expected a floating"),
        (np.zeros((2, 0)), ValueError, r"vectors: expected shape \(\.\.\., N\)"),
        (np.float64(1)[...], ValueError, "vectors: expected shape"),
    ],
)
def test_bad_vectors(vectors, error, message):
    with pytest.raises(error, match=message):
        activation_hue(vectors)


@pytest.mark.parametrize("kind", LIBRARIES)
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -3, -4])
def test_channels_on_any_axis(kind, axis):
    vectors = np.random.default_rng(2).standard_normal((3, 4, 5, 6))
    hue = activation_hue(kind(vectors), axis=axis)
    assert type(hue) is type(kind(vectors))
    assert angle_between(hue, formula(np.moveaxis(vectors, axis, -1))).max() < 1e-12


@pytest.mark.parametrize("kind", LIBRARIES)
def test_feature_maps_need_an_axis(kind):
    maps = np.random.default_rng(3).random((2, 5, 4, 4))
    with pytest.raises(ValueError, match=r"axis: expected 1 for feature maps .* got none .*\(2, 5, 4, 4\)"):
        activation_hue(kind(maps))
    pixels = activation_hue(pixel_vectors(kind(maps)))
    assert angle_between(pixels.reshape(2, 4, 4), activation_hue(kind(maps), axis=1)).max() < 1e-12


@pytest.mark.parametrize("kind", LIBRARIES)
@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (3, ValueError, "axis: expected -3 to 2, got 3"),
        (-4, ValueError, "axis: expected -3 to 2, got -4"),
        (1, ValueError, r"vectors: expected shape .* got \(2, 0, 3\)"),
        (1.0, TypeError, "axis: expected an integer, got float"),
        (True, TypeError, "axis: expected an integer, got bool"),
        ((0, 1), TypeError, "axis: expected an integer, got tuple"),
    ],
)
def test_bad_axis(kind, axis, error, message):
    with pytest.raises(error, match=message):
        activation_hue(kind(np.zeros((2, 0, 3))), axis=axis)


def test_does_not_import_torch():
    code = "import sys, pyhue.hue; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
