"""The density compiled and exported: one graph, whatever the batch size, for another memory too."""

import io

import pytest
import torch
import torch._dynamo.testing
from test_nn_density import memory_and_activations

from pyhue.nn import MemoryClassifier
from pyhue.nn.functional import pixel_density

# torch.compile instantiates autograd functions, and inductor uses torch.jit: both warn.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


class Model(torch.nn.Module):
    """Feature maps of a convolution, and their density."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(2, 6, 1)
        self.density = MemoryClassifier(memory_and_activations()[0], k=4, eps=0.1, differentiable=True)

    def forward(self, images):
        return self.density(self.convolution(images)).clamp(min=-30)


def gradients(model, found):
    return torch.autograd.grad(found.cos().sum(), list(model.parameters()))


def assert_same_step(model, compiled, images):
    ours, theirs = compiled(images), model(images)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(gradients(model, ours), gradients(model, theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_one_graph_for_any_number_of_images_and_any_memory():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    model = Model()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    for images, seed in ((4, 0), (7, 0), (12, 1), (3, 2)):
        model.density.memory = memory_and_activations(seed=seed)[0]
        compilations = counter.frame_count
        assert_same_step(model, compiled, torch.randn(images, 2, 2, 3))
        assert images == 4 or counter.frame_count == compilations


def test_the_function_knows_its_memory():
    torch._dynamo.reset()
    compiled = torch.compile(pixel_density, fullgraph=True, dynamic=True, backend="aot_eager")
    for images, seed in ((4, 0), (7, 0), (12, 1), (3, 0)):
        memory, activations = memory_and_activations(images=images, seed=seed)
        ours, theirs = (f(activations, memory, 4, 0.1) for f in (compiled, pixel_density))
        torch.testing.assert_close(ours, theirs)


def test_compile_with_inductor():
    torch._dynamo.reset()
    model = Model()
    assert_same_step(model, torch.compile(model, fullgraph=True), torch.randn(5, 2, 2, 3))


def test_compile_under_autocast():
    torch._dynamo.reset()
    model, images = Model(), torch.randn(5, 2, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(images)
        plain = model(images)
    assert compiled.dtype == torch.float32
    torch.testing.assert_close(compiled, plain)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch 2.10, 2.11
def test_export_save_load_and_run():
    model, batch = Model(), torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (torch.randn(3, 2, 2, 3),), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()  # in this process, where the memory is
    for images in (3, 9):
        maps = torch.randn(images, 2, 2, 3)
        torch.testing.assert_close(loaded(maps), model(maps))
