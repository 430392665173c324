"""A memory on a GPU, and with the emulated kernels, which take CPU tensors."""

import copy
import pickle

import numpy as np
import pytest
from families import FAMILIES, draw
from gpu import moved

import pyhue

torch = pytest.importorskip("torch")
pyhue_nn = pytest.importorskip("pyhue.nn")


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


def test_a_layer_searches_there(memories, gpu):
    maps = torch.rand(5, 40, 2, 3, generator=torch.Generator().manual_seed(3))
    layers = [pyhue_nn.MemoryClassifier(memory, k=4) for memory in memories]
    expected, found = layers[0](maps), layers[1](maps.to(gpu.device))
    assert found.device.type == gpu.device.type
    torch.testing.assert_close(found.cpu(), expected)
    compiled = torch.compile(layers[1], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(maps.to(gpu.device)).cpu(), expected)


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
    assert memories[1].log_likelihood(queries).shape == (2, 6)


def test_copies(memories, gpu):
    queries = torch.rand(5, 40)
    expected = memories[1].search(queries)
    for copied in (copy.deepcopy(memories[1]), pickle.loads(pickle.dumps(memories[1]))):
        assert copied.device == ("cuda:0" if gpu.device.type == "cuda" else "cpu")  # never emulated
        assert torch.equal(copied.search(queries).distances, expected.distances)


def test_more_queries_than_a_batch(gpu):
    vectors = torch.rand(30, 1, 8, generator=torch.Generator().manual_seed(2))
    cpu, memory = pyhue.PixelMemory(8), moved(pyhue.PixelMemory(8), gpu)
    for each in (cpu, memory):
        each.add(vectors, [0] * 30)
    queries = torch.rand(4200, 8, generator=torch.Generator().manual_seed(3))
    assert gpu.ops.search_batch(queries, 1) == 4096
    expected, found = (each.search(queries, 1) for each in (cpu, memory))
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)


def test_queries_that_are_not_finite(memories, gpu):
    queries = torch.rand(2, 3, 40, device=gpu.device)
    queries[1, 1, 5] = torch.nan
    found = memories[1].search(queries, 4)
    assert found.distances.isnan().all(2).tolist() == [[False] * 3, [False, True, False]]
    assert (found.indices[1, 1] == -1).all()
    assert memories[1].log_likelihood(queries).isnan().any(1).tolist() == [False, True]
    with pytest.raises(ValueError, match="queries: expected finite values, got NaN or Inf in row 4"):
        memories[1].search(queries.cpu().numpy())


def test_wrong_arguments(memories, gpu):
    memory = memories[1]
    with pytest.raises(ValueError, match="k: expected at most 1024 on a GPU, got 1025"):
        memory.search(torch.rand(1, 40), 1025)
    with pytest.raises(ValueError, match=r"queries: expected shape \(..., 40\), got \(1, 39\)"):
        memory.search(torch.rand(1, 39))
    with pytest.raises(ValueError, match=r"activations: expected .* got \(1, 39\)"):
        memory.predict(torch.rand(1, 39))
    with pytest.raises(TypeError, match=r"expected a tensor of one of float16, .* got torch.int64"):
        memory.search(torch.zeros(1, 40, dtype=torch.int64, device=gpu.device))
    with pytest.raises(ValueError, match="got an empty memory"):
        memory._memory._on_gpu.search(pyhue.VectorMemory(3)._newest, torch.rand(1, 3), 1)
    with pytest.raises(
        ValueError, match="device: expected 'cpu' or 'cuda', with or without a number, got 'meta'"
    ):
        memory.to("meta")
    with pytest.raises(ValueError, match="max_bytes: expected at least 0, got -1"):
        memory.to("cuda", max_bytes=-1)
    with pytest.raises(TypeError, match="max_bytes: expected an integer, got float"):
        memory.to("cuda", max_bytes=1e9)
    assert memory.device == str(memory._memory._on_gpu.device)
    assert memory.to("cpu").device == "cpu"


def test_k_and_eps_are_looked_at_before_anything_is_copied(memories):
    memory = memories[1]
    for call in (memory.search, memory.log_likelihood, memory.predict):
        with pytest.raises(ValueError, match="k: expected at most 1024 on a GPU, got 1025"):
            call(torch.rand(1, 2, 40), 1025)
    with pytest.raises(ValueError, match="eps: expected a positive number, got 0"):
        memory.predict(torch.rand(1, 2, 40), eps=0)
    assert memory.explain() == {}


def test_rows_of_a_moment_that_is_past(memories):
    """Another thread may have gone on since: what the GPU holds is never cut back."""
    memory = memories[1]
    before = memory._newest()
    memory.add(torch.rand(5, 9, 40), torch.arange(5))
    memory.search(torch.rand(3, 40))
    rows = torch.tensor([0, 200, 269])
    pieces, places = memory._memory._on_gpu.pieces(before, rows)
    found = torch.cat(pieces)[places.to(pieces[0].device)].float().cpu()
    np.testing.assert_array_equal(found, memory.vectors[rows])
    assert memory.explain()["vectors"] == 315


def test_optimize_and_explain_say_what_they_describe(memories, gpu):
    memory = memories[1]
    with pytest.raises(RuntimeError, match=f"memory: optimize packs .* searched on {memory.device}"):
        memory.optimize()
    memory.search(torch.rand(3, 40))
    found = memory.explain()
    assert found["device"] == memory.device
    assert (found["vectors"], found["on_gpu"], found["packed_on_gpu"], found["on_host"]) == (270, 270, 0, 0)
    assert found["gpu_bytes"] == pytest.approx(270 * found["bytes_per_vector"])
    assert found["bytes_per_vector"] > 40 * (4 if memory.dtype == "float32" else 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_such_gpu():
    with pytest.raises(RuntimeError, match=r"device: expected one of \d+ GPUs, got cuda:99"):
        pyhue.PixelMemory(3).to("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_cuda():
    with pytest.raises(RuntimeError, match=r"device: .* torch finds no GPU"):
        pyhue.PixelMemory(3).to("cuda")


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
