"""The hue loss compiled and exported: one graph, whatever the batch size."""

import io

import pytest
import torch
import torch._dynamo.testing
from hue_reference import small_example
from torch import nn

import pyhue.nn as hue_nn
from pyhue.nn.functional import hue_cross_entropy, linear_hue_cross_entropy

# torch.compile instantiates autograd functions, and inductor uses torch.jit: both warn.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


def step_of(**options):
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = hue_nn.HueHead(6, 5, per_class=options.pop("per_class", False))
            self.loss = hue_nn.HueCrossEntropyLoss(5, **options)

        def forward(self, features, target):
            return self.loss(*self.head(features), target)

    return Step()


MORE = {"softcap": 5.0, "lse_square_scale": 0.1, "return_lse": True, "return_accuracy": True}


@pytest.mark.parametrize("linear", [False, True])
def test_compile_of_all_options(linear):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    function = linear_hue_cross_entropy if linear else hue_cross_entropy

    def loss(*arguments):
        found = function(*arguments, **MORE)
        return 2 * found.loss, found.lse.mean(), found.accuracy

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counter)
    for rows in (4, 7, 12):
        input, hue, target, labels = small_example(rows, dtype=torch.float32)
        leaves = (input, *hue_nn.HueHead(5, 5).parameters()) if linear else (input, hue)
        compilations = counter.frame_count
        found, plain = (f(*leaves, target, labels) for f in (compiled, loss))
        torch.testing.assert_close(found, plain)
        gradients = [torch.autograd.grad(result[0], leaves) for result in (found, plain)]
        torch.testing.assert_close(*gradients)
        assert rows == 4 or counter.frame_count == compilations


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compile_without_breaks_or_recompilation(reduction):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, dynamic=True, backend=counter)
    def loss(input, hue, target, labels):
        return 2 * hue_cross_entropy(input, hue, target, labels, reduction=reduction).sum()

    for rows in (4, 7, 12):
        input, hue, target, labels = small_example(rows, dtype=torch.float32)
        compilations = counter.frame_count
        compiled = loss(input, hue, target, labels)
        plain = 2 * hue_cross_entropy(input, hue, target, labels, reduction=reduction).sum()
        torch.testing.assert_close(compiled, plain)
        for ours, theirs in zip(
            torch.autograd.grad(compiled, (input, hue)), torch.autograd.grad(plain, (input, hue)), strict=True
        ):
            torch.testing.assert_close(ours, theirs)
        assert rows == 4 or counter.frame_count == compilations


@pytest.mark.parametrize("options", [{"learnable": True}, {"per_class": True}])
def test_compile_of_modules_recompiles_once_at_most(options):
    """Without dynamic=True torch makes the batch dynamic when it first changes."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    step = step_of(**options)
    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for rows in (4, 7, 12, 9):
        features, target = torch.randn(rows, 6), torch.randint(5, (rows,))
        parameters = list(step.parameters())
        losses = compiled(features, target), step(features, target)
        torch.testing.assert_close(*losses)
        for ours, theirs in zip(*(torch.autograd.grad(loss, parameters) for loss in losses), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert counter.frame_count <= 2


def test_compile_of_the_linear_loss():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(linear_hue_cross_entropy, fullgraph=True, dynamic=True, backend=counter)
    head, labels = hue_nn.HueHead(6, 5), hue_nn.hue_labels(5)
    layers = list(head.parameters())
    for rows in (4, 7, 12):
        features, target = torch.randn(rows, 6), torch.randint(5, (rows,))
        compilations = counter.frame_count
        losses = [f(features, *layers, target, labels) for f in (compiled, linear_hue_cross_entropy)]
        for ours, theirs in zip(*(torch.autograd.grad(3 * loss, layers) for loss in losses), strict=True):
            torch.testing.assert_close(ours, theirs)
        assert rows == 4 or counter.frame_count == compilations


def test_compile_under_autocast():
    torch._dynamo.reset()
    step = step_of()
    features, target = torch.randn(8, 6), torch.randint(5, (8,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(features, target)
        plain = step(features, target)
    assert compiled.dtype == torch.float32
    torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("linear", [False, True])
def test_double_backward_of_compiled_transforms_says_no(linear):
    torch._dynamo.reset()
    input, hue, target, labels = (t.detach() for t in small_example())

    def loss(x):
        if linear:
            weights = labels, labels[:, 0], labels[:2], labels[:2, 0]
            return linear_hue_cross_entropy(x[:, :2], *weights, target, labels)
        return hue_cross_entropy(x, hue, target, labels)

    def gradient_norm(x):
        return torch.func.grad(loss)(x).square().sum()

    with pytest.raises(RuntimeError, match="no double backward"):
        torch.compile(torch.func.grad(gradient_norm), backend="aot_eager")(input)


# torch.compile instantiates autograd functions, and inductor uses torch.jit: both warn.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compile_with_inductor():
    torch._dynamo.reset()
    step = step_of()
    features, target = torch.randn(8, 6), torch.randint(5, (8,))
    compiled = torch.compile(step, fullgraph=True)(features, target)
    torch.testing.assert_close(compiled, step(features, target))
    compiled.backward()
    assert all(parameter.grad is not None for parameter in step.parameters())


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch 2.10, 2.11
@pytest.mark.parametrize("options", [{}, {"learnable": True}, {"per_class": True, "reduction": "none"}])
def test_export_save_load_and_run(options):
    step = step_of(**options)
    batch = torch.export.Dim("batch", min=2)
    arguments = (torch.randn(3, 6), torch.randint(5, (3,)))
    program = torch.export.export(step, arguments, dynamic_shapes=({0: batch}, {0: batch}))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for rows in (3, 9):
        features, target = torch.randn(rows, 6), torch.randint(5, (rows,))
        torch.testing.assert_close(loaded(features, target), step(features, target))


@pytest.mark.parametrize("linear", [False, True])
def test_export_of_all_options(linear):
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.labels = hue_nn.HueHead(6, 5), nn.Buffer(hue_nn.hue_labels(5))

        def forward(self, features, target):
            if linear:
                arguments = (features, *self.head.parameters())
                return tuple(linear_hue_cross_entropy(*arguments, target, self.labels, **MORE))
            return tuple(hue_cross_entropy(*self.head(features), target, self.labels, **MORE))

    step, batch = Step(), torch.export.Dim("batch", min=2)
    arguments = (torch.randn(3, 6), torch.randint(5, (3,)))
    program = torch.export.export(step, arguments, dynamic_shapes=({0: batch}, {0: batch}))
    for rows in (3, 9):
        arguments = (torch.randn(rows, 6), torch.randint(5, (rows,)))
        torch.testing.assert_close(program.module()(*arguments), step(*arguments))
