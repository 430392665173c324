"""The memory and the operators on a GPU, and with the emulated kernels, which take CPU tensors."""

import copy
import functools
import importlib.util
import math
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
from families import FAMILIES, draw

import pyhue

torch = pytest.importorskip("torch")
pyhue_nn = pytest.importorskip("pyhue.nn")

from pyhue._device_pieces import Place, packed_bytes, places, stream_vectors  # noqa: E402
from pyhue._device_search import DeviceSearch  # noqa: E402
from pyhue.nn import _autograd, _hue_cross_entropy  # noqa: E402


class Gpu(NamedTuple):
    device: torch.device
    ops: Any


@pytest.fixture(params=["emulated", "cuda"])
def gpu(request):
    """Where the kernels run, and their operators."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return Gpu(torch.device("cuda"), torch.ops.pyhue)
    spec = importlib.util.find_spec("pyhue._torch_emulation")
    if spec is None:
        pytest.skip("pyhue was built without PYHUE_EMULATION")
    torch.ops.load_library(spec.origin)
    return Gpu(torch.device("cpu"), torch.ops.pyhue_emulation)


def moved(memory, gpu, max_bytes=None):
    if gpu.device.type == "cuda":
        return memory.to("cuda", max_bytes)
    memory._on_gpu = DeviceSearch(gpu.device, gpu.ops, max_bytes)
    return memory


@pytest.fixture(params=["float32", "bfloat16"])
def memories(request, gpu):
    """The same memory on the CPU and on the GPU."""
    rng = np.random.default_rng(0)
    activations, labels = rng.random((30, 9, 40), dtype=np.float32), rng.integers(0, 5, 30)
    both = [pyhue.PixelMemory(40, dtype=request.param) for _ in range(2)]
    for memory in both:
        memory.add(activations, labels)
    return both[0], moved(both[1], gpu)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_tensors_on_the_device(memories, gpu, dtype):
    queries = torch.rand(4, 9, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    there, (cpu, on_gpu) = queries.to(gpu.device), memories
    expected, found = cpu.search(queries, 7), on_gpu.search(there, 7)
    assert found.distances.device.type == found.indices.device.type == gpu.device.type
    assert torch.equal(found.distances.cpu(), expected.distances)
    assert torch.equal(found.indices.cpu(), expected.indices)
    found = on_gpu.log_likelihood(there)
    torch.testing.assert_close(found.cpu(), cpu.log_likelihood(queries), rtol=1e-13, atol=0)
    assert torch.equal(on_gpu.predict(there).cpu(), cpu.predict(queries))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_bits_as_on_the_cpu(gpu, family):
    for n, dim, queries, k in [(1, 3, 2, 1), (33, 1, 5, 40), (700, 63, 65, 10)]:
        memory = pyhue.PixelMemory(dim, normalize=False)
        memory.add(draw(family, n, dim)[None], [0])
        rows = draw(family, queries, dim, 1)
        expected = memory.search(rows, k)
        found = moved(memory, gpu).search(rows, k)
        np.testing.assert_array_equal(found.distances, expected.distances)
        np.testing.assert_array_equal(found.indices, expected.indices)


def test_no_queries(memories, gpu):
    found = memories[1].search(torch.rand(2, 0, 40, device=gpu.device), 3)
    assert found.distances.shape == found.indices.shape == (2, 0, 3)
    assert memories[1].predict(torch.rand(0, 9, 40, device=gpu.device)).shape == (0,)


def test_arrays_and_feature_maps(memories):
    maps = np.random.default_rng(1).random((3, 40, 2, 3))
    for name in ("log_likelihood", "predict"):
        expected, found = (getattr(memory, name)(maps) for memory in memories)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    expected, found = (memory.search(maps[0, :, 0].T, 3) for memory in memories)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_vectors_that_are_added_later(memories, gpu):
    queries, added = torch.rand(2, 9, 40), torch.rand(3, 9, 40)
    labels = torch.tensor([7, 1, 0])
    for memory in memories:
        memory.search(queries)
    memories[0].add(added, labels)
    memories[1].add(added.to(gpu.device), labels.to(gpu.device))
    expected, found = (memory.search(queries) for memory in memories)
    assert torch.equal(found.indices, expected.indices)
    assert memories[1].log_likelihood(queries).shape == (2, 8)


def place_names(memory):
    return [piece.place.name for piece in memory._on_gpu._index._pieces]


def test_only_what_was_added_is_copied(gpu):
    rng = np.random.default_rng(0)
    cpu, memory = pyhue.PixelMemory(20), moved(pyhue.PixelMemory(20), gpu)
    queries = rng.random((9, 20), dtype=np.float32)
    lengths = []
    for images in (30, 1, 10, 2, 1, 200):
        added = rng.random((images, 4, 20), dtype=np.float32)
        for each in (cpu, memory):
            each.add(added, np.zeros(images, int))
        before = list(memory._on_gpu._index._pieces) if memory._on_gpu._index else []
        found, expected = memory.search(queries, 150), cpu.search(queries, 150)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
        after = memory._on_gpu._index._pieces
        lengths.append([len(piece.vectors) for piece in after])
        kept = len(after) - 1
        assert all(a is b for a, b in zip(after[:kept], before[:kept], strict=True))
    assert lengths == [[120], [120, 4], [120, 44], [120, 44, 8], [120, 44, 8, 4], [976]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("room", ["all", "packed", "some", "none"])
def test_a_memory_larger_than_the_gpu(gpu, dtype, room, monkeypatch):
    monkeypatch.setattr("pyhue._device_pieces._STREAM_BYTES", 256 * 140)  # 256 vectors
    dim, vectors = 40, 1728
    packed = 140 * vectors
    max_bytes = {
        "all": packed + vectors * dim * (4 if dtype == "float32" else 2),
        "packed": packed,
        "some": packed - 1,
        "none": 0,
    }[room]
    both = [pyhue.PixelMemory(dim, dtype=dtype) for _ in range(2)]
    activations = np.random.default_rng(0).random((vectors + 600, 1, dim), dtype=np.float32)
    labels = np.arange(vectors + 600) % 7
    memory = moved(both[1], gpu, max_bytes)
    for end, streamed in (
        (vectors, {"all": 0, "packed": 0, "some": 3, "none": 7}),
        (vectors + 600, {"all": 3, "packed": 3, "some": 6, "none": 10}),
    ):
        begin = len(memory)
        for each in both:
            each.add(activations[begin:end], labels[begin:end])
        queries = np.random.default_rng(end).random((3, 5, dim))
        expected, found = (each.search(queries, 20) for each in both)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
        likelihoods = [each.log_likelihood(queries) for each in both]
        np.testing.assert_allclose(*likelihoods, rtol=1e-13)
        assert place_names(memory).count("HOST") == streamed[room]
    assert sum(piece.gpu_bytes for piece in memory._on_gpu._index._pieces) <= max_bytes


@pytest.mark.parametrize(("dim", "vector_bytes"), [(1280, 5120), (1280, 2560), (3, 12)])
@pytest.mark.parametrize("count", [1, 300, 10_000_000])
def test_places_keep_to_the_room(dim, vector_bytes, count):
    packed = packed_bytes(dim)
    whole = count * (packed + vector_bytes)
    for room in (-1, 0, count * packed - 1, count * packed, whole - 1, whole, 3 << 30):
        cut = list(places(count, dim, vector_bytes, room))
        of = {place: sum(part for part, where in cut if where is place) for place in Place}
        assert sum(of.values()) == count
        used = whole * (of[Place.GPU] > 0) + of[Place.PACKED] * packed
        assert of[Place.GPU] in (0, count)
        buffers = 2 * packed * stream_vectors(dim) if of[Place.HOST] else 0
        assert used == 0 or used + buffers <= room
        assert bool(of[Place.HOST]) == (room < count * packed)


def test_a_copy_that_fails_is_begun_anew(memories, gpu, monkeypatch):
    cpu, memory = memories
    memory.search(np.ones((1, 40)))
    for each in memories:
        each.add(np.random.default_rng(3).random((300, 9, 40)), np.zeros(300, int))
    with monkeypatch.context() as patched:
        patched.setattr("pyhue._device_index.make_piece", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            memory.search(np.ones((1, 40)))
    queries = np.random.default_rng(4).random((5, 40))
    np.testing.assert_array_equal(memory.search(queries).indices, cpu.search(queries).indices)


def test_copies(memories, gpu):
    queries = torch.rand(5, 40)
    expected = memories[1].search(queries)
    for copied in (copy.deepcopy(memories[1]), pickle.loads(pickle.dumps(memories[1]))):
        assert copied.device == ("cuda:0" if gpu.device.type == "cuda" else "cpu")  # never emulated
        assert torch.equal(copied.search(queries).distances, expected.distances)


def test_many_queries(memories, gpu):
    queries = torch.rand(5000, 40, generator=torch.Generator().manual_seed(2))
    expected, found = (memory.search(queries, 1) for memory in memories)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)


def test_queries_that_are_not_finite(memories, gpu):
    queries = torch.rand(2, 3, 40, device=gpu.device)
    queries[1, 1, 5] = torch.nan
    found = memories[1].search(queries, 4)
    assert found.distances.isnan().all(2).tolist() == [[False] * 3, [False, True, False]]
    assert (found.indices[1, 1] == -1).all()
    assert memories[1].log_likelihood(queries).isnan().any(1).tolist() == [False, True]
    with pytest.raises(ValueError, match="vectors: expected finite values, got NaN or Inf in row 4"):
        memories[1].search(queries.cpu().numpy())


def test_wrong_arguments(memories, gpu):
    memory = memories[1]
    with pytest.raises(ValueError, match="k: expected at most 1024 on a GPU, got 1025"):
        memory.search(torch.rand(1, 40), 1025)
    with pytest.raises(ValueError, match=r"vectors: expected shape \(..., 40\), got \(1, 39\)"):
        memory.search(torch.rand(1, 39))
    with pytest.raises(ValueError, match=r"activations: expected .* got \(1, 39\)"):
        memory.predict(torch.rand(1, 39))
    with pytest.raises(TypeError, match=r"expected a tensor of one of float16, .* got torch.int64"):
        memory.search(torch.zeros(1, 40, dtype=torch.int64, device=gpu.device))
    with pytest.raises(ValueError, match="got an empty memory"):
        memory._on_gpu.search(pyhue.PixelMemory(3), torch.rand(1, 3), 1)
    with pytest.raises(ValueError, match="device: expected 'cpu' or 'cuda', got 'meta'"):
        memory.to("meta")
    with pytest.raises(ValueError, match="max_bytes: expected at least 0, got -1"):
        memory.to("cuda", max_bytes=-1)
    with pytest.raises(TypeError, match="max_bytes: expected an integer, got float"):
        memory.to("cuda", max_bytes=1e9)
    assert memory.device == str(memory._on_gpu.device)
    assert memory.to("cpu").device == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_such_gpu():
    with pytest.raises(RuntimeError, match=r"device: expected one of \d+ GPUs, got cuda:99"):
        pyhue.PixelMemory(3).to("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_cuda():
    with pytest.raises(RuntimeError, match=r"device: .* torch finds no GPU"):
        pyhue.PixelMemory(3).to("cuda")


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
        options = (1.0, 0.5, -100, reduction, 0.1, True, True)
        ours = gpu.ops.hue_cross_entropy(*there, None, None, *options)
        theirs = torch.ops.pyhue.hue_cross_entropy(*here, None, None, *options)
        for a, b in zip(ours, theirs, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            torch.testing.assert_close(a.cpu(), b, **tolerance)
    results = []
    for ops, arguments in ((gpu.ops, there), (torch.ops.pyhue, here)):
        logits = arguments[0].clone()
        options = (None, None, 1.0, 0.5, -100, 0.0)
        loss, gradient = ops.hue_cross_entropy_(logits, *arguments[1:], *options)
        results.append((logits, loss, gradient))
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
def test_the_loss_and_its_linear_form_with_autograd_on_cuda(dtype):
    results = []
    for device in ("cpu", "cuda"):
        input, hue, target, labels = (t.to(device) for t in example(9, 1001, dtype, False, False))
        leaves = [input.requires_grad_(), hue.requires_grad_(), labels.requires_grad_()]
        loss = 2 * pyhue_nn.functional.hue_cross_entropy(*leaves[:2], target, labels)
        results.append([loss, *torch.autograd.grad(loss, leaves)])
        if dtype in (torch.float32, torch.float64):
            torch.manual_seed(0)
            layers = torch.nn.Linear(8, 1001, dtype=dtype), torch.nn.Linear(8, 2, dtype=dtype)
            tensors = [t.detach().to(device).requires_grad_() for m in layers for t in (m.weight, m.bias)]
            arguments = (torch.rand(9, 8, dtype=dtype).to(device), *tensors, target, labels.detach())
            loss = pyhue_nn.functional.linear_hue_cross_entropy(*arguments)
            results[-1] += [loss, *torch.autograd.grad(loss, tensors)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_streamed_pieces_on_several_streams(monkeypatch):
    monkeypatch.setattr("pyhue._device_pieces._STREAM_BYTES", 1 << 20)
    activations = torch.rand(20, 2000, 100)
    cpu, memory = pyhue.PixelMemory(100), pyhue.PixelMemory(100).to("cuda", max_bytes=1 << 20)
    for each in (cpu, memory):
        each.add(activations, torch.arange(20) % 5)
    queries = torch.rand(3, 60, 100, device="cuda")
    expected = cpu.search(queries.cpu())
    memory.search(queries[:1])
    streams = [torch.cuda.Stream() for _ in range(3)]
    torch.cuda.synchronize()
    for _ in range(5):
        found = []
        for stream, part in zip(streams, queries, strict=True):
            with torch.cuda.stream(stream):
                found.append(memory.search(part))
        torch.cuda.synchronize()
        for part, distances, indices in zip(found, expected.distances, expected.indices, strict=True):
            assert torch.equal(part.indices.cpu(), indices)
            assert torch.equal(part.distances.cpu(), distances)
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="cannot hold the search"), torch.cuda.graph(graph):
        memory.search(queries)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_a_gpu_that_is_not_the_current_one():
    activations = torch.rand(30, 9, 40)
    cpu, memory = pyhue.PixelMemory(40), pyhue.PixelMemory(40).to("cuda:1")
    for each in (cpu, memory):
        each.add(activations, torch.arange(30) % 5)
    queries = torch.rand(4, 9, 40)
    found = memory.search(queries.to("cuda:1"))
    assert found.indices.device == torch.device("cuda", 1)
    assert torch.equal(found.indices.cpu(), cpu.search(queries).indices)
    input, hue, target, labels = example(9, 1001, torch.float32, False, False)
    there = [tensor.to("cuda:1") for tensor in (input, hue, target, labels)]
    loss = pyhue_nn.functional.hue_cross_entropy(*there)
    torch.testing.assert_close(
        loss.cpu(), pyhue_nn.functional.hue_cross_entropy(input, hue, target, labels), rtol=1e-5, atol=0
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_on_a_stream_of_its_own():
    activations, labels = torch.rand(30, 9, 40), torch.arange(30) % 5
    cpu, memory = pyhue.PixelMemory(40), pyhue.PixelMemory(40).to("cuda")
    for each in (cpu, memory):
        each.add(activations, labels)
    queries = torch.rand(4, 9, 40, device="cuda")
    memory.predict(queries)  # copies the memory, which a graph must not
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found, classes = memory.search(queries), memory.predict(queries)
    for _ in range(2):
        queries.copy_(torch.rand(4, 9, 40))
        graph.replay()
        expected = cpu.search(queries.cpu())
        assert torch.equal(found.indices.cpu(), expected.indices)
        assert torch.equal(found.distances.cpu(), expected.distances)
        assert torch.equal(classes.cpu(), cpu.predict(queries.cpu()))
