"""The operators of the hue loss on a GPU, and emulated."""

import functools
import math

import pytest

torch = pytest.importorskip("torch")
pyhue_nn = pytest.importorskip("pyhue.nn")

from pyhue.nn import _autograd, _hue_cross_entropy, _linear  # noqa: E402

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 4e-3, torch.float16: 4e-3}


def example(rows, classes, dtype, probabilities, per_class):
    generator = torch.Generator().manual_seed(0)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    input = (3 * torch.randn(rows, classes, generator=generator)).to(dtype)
    hue = torch.randn((rows, classes, 2) if per_class else (rows, 2), generator=generator, dtype=real)
    labels = pyhue_nn.hue_labels(classes, generator=generator).to(real)
    if probabilities:
        return input, hue, torch.rand(rows, classes, generator=generator, dtype=real).softmax(1), labels
    return input, hue, torch.randint(classes, (rows,), generator=generator), labels


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
def test_operators_of_the_hue_loss(gpu, dtype, probabilities, per_class):
    here = example(6, 50, dtype, probabilities, per_class)
    there = [tensor.to(gpu.device) for tensor in here]
    tolerance = {"rtol": 0, "atol": TOLERANCE[dtype]}
    for reduction in range(3):
        options = (1.0, 0.5, -100, reduction, 0.1, 0.01, 3.0, 15 if probabilities else 27)
        ours = gpu.ops.hue_cross_entropy(*there, None, None, *options)
        theirs = torch.ops.pyhue.hue_cross_entropy(*here, None, None, *options)
        for a, b in zip(ours, theirs, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            torch.testing.assert_close(a.cpu(), b, **tolerance)
    results = []
    for ops, arguments in ((gpu.ops, there), (torch.ops.pyhue, here)):
        logits = arguments[0].clone()
        options = (None, None, 1.0, 0.5, -100, 0.0, 0.01, 0.0, 0 if probabilities else 24)
        results.append((logits, *ops.hue_cross_entropy_(logits, *arguments[1:], *options)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.cpu(), b, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [1.0, 3.0, 0.0, -0.3, math.inf, math.nan])
def test_scaled_gradients(gpu, dtype, factor):
    real = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(0)
    for offset, count in [(0, 1), (0, 8), (3, 5000), (1, 40_001)]:
        memory = torch.randn(offset + count + 1, generator=generator).to(dtype)
        memory[offset] = torch.nan
        hue = torch.randn(7, 2, generator=generator, dtype=real)
        expected, expected_hue = memory.clone(), hue * factor
        inside = slice(offset, offset + count)
        expected[inside] = (memory[inside].to(real) * torch.tensor(factor, dtype=real)).to(dtype)
        there = memory.to(gpu.device), hue.to(gpu.device)
        gradients = [there[0][inside], there[1], there[0][:0]]
        gpu.ops.scale_gradients_(gradients, torch.tensor(factor, dtype=real, device=gpu.device))
        torch.testing.assert_close(there[0].cpu(), expected, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(there[1].cpu(), expected_hue, rtol=0, atol=0, equal_nan=True)


def test_wrong_arguments_of_scaled_gradients(gpu):
    one = torch.ones((), device=gpu.device)
    with pytest.raises(ValueError, match="expected 1 to 8 gradients"):
        gpu.ops.scale_gradients_([], one)
    with pytest.raises(ValueError, match="factor is not of the type"):
        gpu.ops.scale_gradients_([one.double()], one)


def test_a_backward_on_the_device(gpu, monkeypatch):
    """Saved gradients are scaled where they lie, unless the graph is kept."""
    scaled = functools.partial(_autograd.scaled, device_ops=gpu.ops)
    monkeypatch.setattr(_hue_cross_entropy, "scaled", scaled)
    input, hue, target, labels = (t.to(gpu.device) for t in example(9, 40, torch.bfloat16, False, False))
    leaves = [input.requires_grad_(), hue.requires_grad_()]
    for factor in (1.0, 4.0, math.nan):
        loss = pyhue_nn.functional.hue_cross_entropy(*leaves, target, labels).float()
        once = [g.clone() for g in torch.autograd.grad(loss, leaves, retain_graph=True)]
        upstream = torch.tensor(factor, device=gpu.device)
        kept = torch.autograd.grad(loss, leaves, upstream, retain_graph=True)
        last = torch.autograd.grad(loss, leaves, upstream)
        for a, b, c in zip(once, kept, last, strict=True):
            assert b.data_ptr() != c.data_ptr()
            torch.testing.assert_close(b, a * factor, rtol=0, atol=0, equal_nan=True)
            torch.testing.assert_close(c, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_loss_and_its_linear_form_with_autograd_on_cuda(dtype, monkeypatch):
    monkeypatch.setattr(_linear, "CHUNK_BYTES", 64 * 1001)  # three chunks
    results, options = [], {"hue_scale": 1.0}
    for device in ("cpu", "cuda"):
        input, hue, target, labels = (t.to(device) for t in example(40, 1001, dtype, False, False))
        leaves = [input.requires_grad_(), hue.requires_grad_(), labels.requires_grad_()]
        loss = 2 * pyhue_nn.functional.hue_cross_entropy(*leaves[:2], target, labels, **options)
        results.append([loss, *torch.autograd.grad(loss, leaves)])
        torch.manual_seed(0)
        layers = torch.nn.Linear(8, 1001, dtype=dtype), torch.nn.Linear(8, 2, dtype=dtype)
        tensors = [t.detach().to(device).requires_grad_() for m in layers for t in (m.weight, m.bias)]
        arguments = (torch.rand(40, 8, dtype=dtype).to(device), *tensors, target, labels.detach())
        loss = pyhue_nn.functional.linear_hue_cross_entropy(*arguments, **options)
        results[-1] += [loss, *torch.autograd.grad(loss, tensors)]
    for a, b in zip(*results, strict=True):
        largest = a.abs().max().item()
        torch.testing.assert_close(b.cpu(), a, rtol=0, atol=10 * TOLERANCE[dtype] * largest)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("classes", [100, 40_001])
def test_a_cuda_graph_of_the_loss_and_its_backward(classes):
    input, hue, target, labels = (t.cuda() for t in example(70, classes, torch.float32, False, False))
    leaves = [input.requires_grad_(), hue.requires_grad_()]

    def step():
        loss = pyhue_nn.functional.hue_cross_entropy(*leaves, target, labels)
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            input.copy_(torch.randn(input.shape, generator=generator))
        graph.replay()
        graph.replay()  # what the backward overwrote is written anew
        for ours, expected in zip(found, step(), strict=True):
            assert torch.equal(ours, expected)


# The compiler's advice, and what it does with autograd functions.
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_on_cuda(backend):
    torch._dynamo.reset()
    arguments = [t.cuda() for t in example(9, 1001, torch.float32, False, False)]
    results = []
    for function in (
        pyhue_nn.functional.hue_cross_entropy,
        torch.compile(pyhue_nn.functional.hue_cross_entropy, backend=backend, fullgraph=True),
    ):
        leaves = [t.detach().clone().requires_grad_() for t in arguments[:2]]
        loss = function(*leaves, *arguments[2:])
        results.append([loss, *torch.autograd.grad(3 * loss, leaves)])
    for compiled, eager in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_the_loss_on_a_gpu_that_is_not_the_current_one():
    arguments = example(9, 1001, torch.float32, False, False)
    loss = pyhue_nn.functional.hue_cross_entropy(*(tensor.to("cuda:1") for tensor in arguments))
    expected = pyhue_nn.functional.hue_cross_entropy(*arguments)
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-5, atol=0)
