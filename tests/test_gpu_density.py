"""The gradient of the density of a memory on a GPU, and with the emulated kernels, against the CPU's own."""

import pytest
from gpu import moved

import pyhue

torch = pytest.importorskip("torch")
pytest.importorskip("pyhue.nn")

from pyhue.nn import MemoryClassifier  # noqa: E402
from pyhue.nn.functional import pixel_density  # noqa: E402


def memories(gpu, dim, normalize=True, storage="float32", max_bytes=None, stored=30):
    """The same memory on the CPU and on the GPU, where it comes in several pieces."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(stored, 4, dim, generator=generator)
    on_cpu, there = (pyhue.PixelMemory(dim, normalize, storage) for _ in range(2))
    on_cpu.add(vectors, torch.arange(stored) % 5)
    moved(there, gpu, max_bytes)
    for part in (slice(0, 20), slice(20, 25), slice(25, stored)):
        there.add(vectors[part], torch.arange(stored)[part] % 5)
        there.search(vectors[0], 1)
    return on_cpu, there


def step(activations, memory, device, k, eps=0.1):
    """Log-likelihoods and the gradient of a sum of those that are not -inf, on the CPU."""
    leaf = activations.to(device).requires_grad_()
    found = pixel_density(leaf, memory, k, eps)
    assert found.device == leaf.device
    weights = torch.linspace(0.5, 2, max(1, found.numel()), device=device)[: found.numel()].reshape(
        found.shape
    )
    (gradient,) = torch.autograd.grad((weights * found)[found.isfinite()].sum(), leaf)
    assert gradient.dtype == leaf.dtype
    return found.detach().cpu(), gradient.cpu()


def assert_same(ours, theirs, dtype):
    close = {"rtol": 1e-11, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("dim", "k"), [(1, 1), (3, 7), (33, 40), (255, 5), (256, 5), (257, 5), (700, 130)])
def test_the_cpu_s_gradient(gpu, dim, k, normalize, storage):
    on_cpu, there = memories(gpu, dim, normalize, storage)
    for dtype in (torch.float32, torch.float64):
        activations = torch.randn(2, 5, dim, generator=torch.Generator().manual_seed(1)).to(dtype)
        activations[1, 2] = 0
        activations[0, 1] = torch.tensor(on_cpu.vectors[3])  # at distance 0
        ours, theirs = (step(activations, m, d, k) for m, d in ((there, gpu.device), (on_cpu, "cpu")))
        assert_same(ours, theirs, dtype)


def test_the_most_channels(gpu):
    on_cpu, there = memories(gpu, 4096, stored=27)
    activations = torch.randn(1, 2, 4096, generator=torch.Generator().manual_seed(1))
    ours, theirs = (step(activations, m, d, 3) for m, d in ((there, gpu.device), (on_cpu, "cpu")))
    assert_same(ours, theirs, torch.float32)


@pytest.mark.parametrize("scale", [2.0**-600, 2.0**600])
def test_float64_beyond_its_squares(gpu, scale):
    on_cpu, there = memories(gpu, 9)
    activations = torch.randn(2, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, gradient = step(activations * scale, there, gpu.device, 5)
    assert_same((found, gradient * scale), step(activations, on_cpu, "cpu", 5), torch.float64)


@pytest.mark.parametrize("max_bytes", [0, 40_000])
def test_vectors_that_lie_on_the_host(gpu, max_bytes):
    on_cpu, there = memories(gpu, 40, max_bytes=max_bytes)
    activations = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(1))
    ours, theirs = (step(activations, m, d, 10) for m, d in ((there, gpu.device), (on_cpu, "cpu")))
    assert_same(ours, theirs, torch.float32)


@pytest.mark.parametrize("shape", [(0, 5, 9), (2, 0, 9)])
def test_nothing_to_compare(gpu, shape):
    _, there = memories(gpu, 9)
    found, gradient = step(torch.zeros(shape), there, gpu.device, 5)
    assert found.shape == (shape[0], 5)
    assert found.isneginf().all()
    assert gradient.shape == shape


def operands(device):
    """What the operators take; the second image of three has no neighbour, the third some."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[[0, 2, 2], [1, 0, 0]], [[-1] * 3] * 2, [[-1, 1, -1], [-1, -1, -1]]])
    vectors = torch.randn(18, 5, generator=generator)
    activations = torch.randn(3, 2, 5, generator=generator)
    indices = torch.where(labels >= 0, torch.arange(18).reshape(labels.shape), -1)
    distances = torch.rand(labels.shape, generator=generator)
    distances[0, 1, 1:] = distances[0, 1, 0]  # ties: the first is the nearest
    counts = torch.tensor([3, 4, 5])
    found = torch.from_numpy(pyhue.density(distances.numpy(), labels.numpy(), counts.numpy(), 0.1))
    gradient = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    tensors = (gradient, found, activations, distances, indices, labels, counts)
    return [tensor.to(device) for tensor in tensors], list(torch.split(vectors.to(device), [7, 0, 11]))


def test_missing_neighbours_and_ties(gpu):
    expected_of, vectors = operands("cpu")
    expected = torch.ops.pyhue.density_backward(*expected_of, vectors, True, 0.1)
    tensors, vectors = operands(gpu.device)
    found = gpu.ops.density_backward(*tensors, vectors, True, 0.1).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert not found[1].any()
    assert not found[2, 1].any()


def test_distances_of_missing_neighbours_and_of_nan(gpu):
    tensors, vectors = operands(gpu.device)
    activations, indices = tensors[2].double(), tensors[4]
    activations[0, 1, 2] = torch.nan
    found = gpu.ops.density_distances(activations, vectors, indices, True)
    assert found[0, 1].isnan().all()
    assert found[1].isposinf().all()
    assert found[2].isposinf().tolist() == [[True, False, True], [True] * 3]


# torch.compile instantiates autograd functions, which warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_layer_learns_there(gpu):
    on_cpu, there = memories(gpu, 6)
    maps = torch.rand(3, 6, 2, 3, generator=torch.Generator().manual_seed(3))
    gradients = []
    for memory, device in ((on_cpu, "cpu"), (there, gpu.device)):
        leaf = maps.to(device).requires_grad_()
        layer = MemoryClassifier(memory, 20, 0.1, differentiable=True)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for function in (layer, compiled):
            loss = torch.nn.functional.cross_entropy(function(leaf), torch.tensor([0, 1, 2], device=device))
            gradients.append(torch.autograd.grad(loss, leaf)[0].cpu())
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-5, atol=1e-7)
