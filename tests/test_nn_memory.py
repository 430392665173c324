import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyhue import PixelMemory
from pyhue.nn import MemoryClassifier

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def memory():
    memory = PixelMemory(dim=6)
    memory.add(torch.rand(9, 6, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3)
    return memory


@pytest.fixture
def maps():
    return torch.rand(5, 6, 2, 2, generator=torch.Generator().manual_seed(1))


def test_layer_gives_the_memory_s_log_likelihoods(memory, maps):
    found = MemoryClassifier(memory, k=4, eps=1e-6)(maps)
    torch.testing.assert_close(found, memory.log_likelihood(maps, k=4, eps=1e-6).float())
    assert MemoryClassifier(memory)(maps.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_scores_of_16_bits_stay_float32(dtype):
    """Rounded to 16 bits, most of these would be -inf, or equal to others."""
    generator = torch.Generator().manual_seed(0)
    memory = PixelMemory(dim=8)
    memory.add(torch.rand(300, 8, 2, 2, generator=generator), torch.arange(300) % 100)
    maps = torch.rand(20, 8, 2, 2, generator=generator).to(dtype)
    layer = MemoryClassifier(memory, k=100).to(dtype)
    scores = layer(maps)
    assert scores.dtype == torch.float32
    expected = memory.log_likelihood(maps, k=100)
    assert torch.equal(scores, expected.float())
    assert not torch.equal(scores.to(dtype).argsort(stable=True), scores.argsort(stable=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(memory, maps, dtype):
    layer = MemoryClassifier(memory)
    operator = torch.ops.pyhue.memory_log_likelihood.default
    torch.library.opcheck(operator, (maps.to(dtype), layer._handle, 3, 10, 1e-8))


def test_compiles_as_one_graph_for_any_number_of_images(memory, maps):
    model = torch.nn.Sequential(torch.nn.ReLU(), MemoryClassifier(memory), torch.nn.Softmax(dim=1))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for images in (maps, maps[:3]):
        torch.testing.assert_close(compiled(images), model(images))


def test_copies_have_memories_of_their_own(memory, maps):
    layer = MemoryClassifier(memory)
    expected = layer(maps)
    twin = copy.deepcopy(layer)
    memory.add(maps, torch.zeros(5, dtype=torch.int64))
    assert not torch.equal(layer(maps), expected)
    del layer, memory
    torch.testing.assert_close(twin(maps), expected)


def test_gradients_stop_and_new_classes_are_noticed(memory, maps):
    layer = MemoryClassifier(memory)
    assert not layer(maps.requires_grad_()).requires_grad
    memory.add(maps.detach()[:1], [7])
    with pytest.raises(ValueError, match="memory: expected 3 classes"):
        layer(maps)


@pytest.mark.parametrize("name", ["memory_in_model", "density_on_faiss"])
def test_examples_run(name):
    pytest.importorskip("sklearn")
    if name == "density_on_faiss":
        pytest.importorskip("faiss")
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=600, check=True
    )
    assert float(done.stdout.split()[-1]) > 0.9
