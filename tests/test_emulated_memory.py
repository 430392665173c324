"""The operators and the Python side of CUDA, with the emulated kernels on CPU tensors."""

import importlib.util

import numpy as np
import pytest

import pyhue

torch = pytest.importorskip("torch")
spec = importlib.util.find_spec("pyhue._torch_emulation")
if spec is None:
    pytest.skip("pyhue was built without PYHUE_EMULATION", allow_module_level=True)
torch.ops.load_library(spec.origin)

from test_emulated_hue_cross_entropy import example  # noqa: E402

from pyhue._device_search import DeviceSearch  # noqa: E402


@pytest.fixture(params=["float32", "bfloat16"])
def memories(request):
    """The same memory for the CPU and for the emulated GPU, which takes CPU tensors for its own."""
    rng = np.random.default_rng(0)
    activations, labels = rng.random((30, 9, 40), dtype=np.float32), rng.integers(0, 5, 30)
    both = [pyhue.PixelMemory(40, dtype=request.param) for _ in range(2)]
    for memory in both:
        memory.add(activations, labels)
    both[1]._on_gpu = DeviceSearch(torch.device("cpu"), torch.ops.pyhue_emulation)
    return both


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_tensors_on_the_device(memories, dtype):
    queries = torch.rand(4, 9, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected, found = (memory.search(queries, 7) for memory in memories)
    assert torch.equal(found.distances, expected.distances)
    assert torch.equal(found.indices, expected.indices)
    expected, found = (memory.log_likelihood(queries) for memory in memories)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    expected, found = (memory.predict(queries) for memory in memories)
    assert torch.equal(found, expected)


def test_arrays_and_feature_maps(memories):
    maps = np.random.default_rng(1).random((3, 40, 2, 3))
    for name in ("log_likelihood", "predict"):
        expected, found = (getattr(memory, name)(maps) for memory in memories)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    expected, found = (memory.search(maps[0, :, 0].T, 3) for memory in memories)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_vectors_that_are_added_later(memories):
    queries = torch.rand(2, 9, 40)
    for memory in memories:
        memory.search(queries)
        memory.add(torch.rand(3, 9, 40, generator=torch.Generator().manual_seed(2)), torch.tensor([7, 1, 0]))
    expected, found = (memory.search(queries) for memory in memories)
    assert torch.equal(found.indices, expected.indices)
    assert memories[1].log_likelihood(queries).shape == (2, 8)


def test_queries_that_are_not_finite(memories):
    queries = torch.rand(2, 3, 40)
    queries[1, 1, 5] = torch.nan
    found = memories[1].search(queries, 4)
    assert found.distances.isnan().all(2).tolist() == [[False] * 3, [False, True, False]]
    assert (found.indices[1, 1] == -1).all()
    assert memories[1].log_likelihood(queries).isnan().any(1).tolist() == [False, True]
    with pytest.raises(ValueError, match="vectors: expected finite values, got NaN or Inf in row 4"):
        memories[1].search(queries.numpy())


def test_wrong_arguments(memories):
    memory = memories[1]
    with pytest.raises(ValueError, match="k: expected at most 1024 on a GPU, got 1025"):
        memory.search(torch.rand(1, 40), 1025)
    with pytest.raises(ValueError, match=r"vectors: expected shape \(..., 40\), got \(1, 39\)"):
        memory.search(torch.rand(1, 39))
    with pytest.raises(ValueError, match=r"activations: expected .* got \(1, 39\)"):
        memory.predict(torch.rand(1, 39))
    with pytest.raises(TypeError, match=r"expected a tensor of one of float16, .* got torch.int64"):
        memory.search(torch.zeros(1, 40, dtype=torch.int64))
    with pytest.raises(ValueError, match="got an empty memory"):
        memory._on_gpu.search(pyhue.PixelMemory(3), torch.rand(1, 3), 1)
    with pytest.raises(ValueError, match="device: expected 'cpu' or 'cuda', got 'meta'"):
        memory.to("meta")
    assert memory.to("cpu")._on_gpu is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has CUDA")
def test_no_cuda():
    with pytest.raises(RuntimeError, match=r"device: .* torch has no CUDA"):
        pyhue.PixelMemory(3).to("cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
def test_operators_of_the_hue_loss(dtype, probabilities, per_class):
    import pyhue.nn  # noqa: F401

    ours, theirs = torch.ops.pyhue_emulation, torch.ops.pyhue
    input, hue, target, labels = example(6, 50, dtype, probabilities, per_class)
    tolerance = {
        "rtol": 0,
        "atol": 1e-5 if dtype == torch.float32 else 1e-12 if dtype == torch.float64 else 4e-3,
    }
    for reduction in range(3):
        options = (1.0, 0.5, -100, reduction, 0.1, True, True)
        for a, b in zip(
            ours.hue_cross_entropy(input, hue, target, labels, None, None, *options),
            theirs.hue_cross_entropy(input, hue, target, labels, None, None, *options),
            strict=True,
        ):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            torch.testing.assert_close(a, b, **tolerance)
    results = []
    for ops in (ours, theirs):
        logits = input.clone()
        loss, gradient = ops.hue_cross_entropy_(logits, hue, target, labels, None, None, 1.0, 0.5, -100, 0.0)
        results.append((logits, loss, gradient))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
