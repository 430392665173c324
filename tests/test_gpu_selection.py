"""Some of the vectors, and all within a radius, on a GPU and with the emulated kernels: the CPU's bits."""

import copy

import numpy as np
import pytest
from families import draw
from gpu import moved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyhue

torch = pytest.importorskip("torch")
pyhue_nn = pytest.importorskip("pyhue.nn")

SHARES = [0.0, 0.01, 0.3, 1.0]
# The fixtures `gpu` and `places` change nothing while a test runs.
ANY = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def _both(memory, gpu, max_bytes=None):
    """The memory and a copy that is searched on the GPU."""
    return memory, moved(copy.deepcopy(memory), gpu, max_bytes)


@pytest.fixture(params=["gpu", "packed", "some", "host"])
def places(request, monkeypatch):
    """Bytes for n vectors of 12 channels so that all, the packed form, some of that or nothing is there."""
    monkeypatch.setattr("pyhue._cuda.pieces._STREAM_BYTES", 256 * 140)  # 256 vectors
    return {
        "gpu": lambda n: None,
        "packed": lambda n: 140 * n,
        "some": lambda n: 140 * n - 1,
        "host": lambda n: 0,
    }[request.param]


@given(
    images=st.integers(1, 90),
    share=st.sampled_from(SHARES),
    missing=st.sampled_from([0, 0, 100]),
    labels=st.sampled_from([None, [1], [0, 2, 9]]),
    exclude=st.booleans(),
    removed=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    normalize=st.booleans(),
    k=st.sampled_from([1, 7, 40]),
    radius=st.sampled_from([0.0, 0.3, 6.0, np.inf]),
    seed=st.integers(0, 5),
)
@ANY
def test_any_selection(
    gpu, places, images, share, missing, labels, exclude, removed, dtype, normalize, k, radius, seed
):
    """In a memory that grows: pieces of any length; the mask may be shorter than the memory."""
    rng = np.random.default_rng(seed)
    n, queries = 9 * images, draw("relu60", 24, 12, seed + 1).reshape(4, 6, 12)
    activations = draw("relu60", n, 12, seed).reshape(images, 9, 12).copy()
    activations[::4, 0] = 0  # hidden, where vectors are compared by direction
    classes = rng.integers(0, 3, images)
    cpu = pyhue.PixelMemory(12, normalize, dtype)
    begin = images // 3
    cpu.add(activations[:begin], classes[:begin])
    cpu, there = _both(cpu, gpu, places(n))
    if begin:
        there.search(queries[0], 1)
    arguments = {
        "where": rng.random(max(0, n - missing)) < share,
        "labels": labels,
        "exclude": rng.integers(-1, images, 4) if exclude else None,
    }
    gone = np.flatnonzero(rng.random(n) < removed)
    for each in (cpu, there):
        each.add(activations[begin:], classes[begin:])
        each.remove(gone)
    k = min(k, n)
    for chosen in (arguments, arguments | {"where": None}):
        _assert_same(there.search(queries, k, **chosen), cpu.search(queries, k, **chosen))
        found, expected = (each.log_likelihood(queries, k, **chosen) for each in (there, cpu))
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        of_rows = chosen if not exclude else chosen | {"exclude": np.repeat(chosen["exclude"], 6)}
        rows = queries.reshape(24, 12)
        _assert_same(there.within(rows, radius, **of_rows), cpu.within(rows, radius, **of_rows))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_without_groups(gpu, dtype):
    cpu = pyhue.VectorMemory(20, dtype=dtype)
    cpu.add(np.concatenate((draw("relu60", 300, 20), np.zeros((1, 20)), draw("relu60", 40, 20, 1))))
    cpu, there = _both(cpu, gpu)
    queries = cpu.vectors[[0, 299, 301, 340]]
    for exclude in ([0, 299, 301, 340], [-1, 299, 0, 300]):
        _assert_same(there.search(queries, 5, exclude=exclude), cpu.search(queries, 5, exclude=exclude))
        _assert_same(there.within(queries, 0.9, exclude=exclude), cpu.within(queries, 0.9, exclude=exclude))
    assert (there.search(queries, 1, exclude=[0, 299, 301, 340]).indices[:, 0] != [0, 299, 301, 340]).all()


def test_leaving_one_out(gpu):
    """Votes and class counts are those of a memory without the image."""
    activations = np.maximum(np.random.default_rng(0).standard_normal((12, 5, 12)), 0)
    cpu = pyhue.PixelMemory(12)
    cpu.add(activations, np.arange(12) % 3)
    cpu, there = _both(cpu, gpu)
    tensors = torch.tensor(activations, device=gpu.device)
    found = there.log_likelihood(tensors, 4, exclude=range(12))
    assert found.device.type == gpu.device.type
    np.testing.assert_allclose(found.cpu(), cpu.log_likelihood(activations, 4, exclude=range(12)), rtol=1e-13)
    expected = cpu.predict(activations, 4, exclude=range(12))
    np.testing.assert_array_equal(there.predict(tensors, 4, exclude=range(12)).cpu(), expected)
    assert not torch.equal(found, there.log_likelihood(tensors, 4))


@pytest.mark.parametrize("chosen", [{"exclude": []}, {"labels": [1]}, {}])
def test_no_images(gpu, chosen):
    cpu = pyhue.PixelMemory(12)
    cpu.add(np.ones((2, 3, 12)), [0, 1])
    for memory in _both(cpu, gpu):
        assert memory.log_likelihood(np.ones((0, 3, 12)), 2, **chosen).shape == (0, 2)
        assert memory.within(np.ones((0, 12)), 2, **chosen).limits.tolist() == [0]


def test_removing_while_it_grows(gpu):
    """Class counts follow, and a layer's; what was copied is not copied again."""
    rng = np.random.default_rng(0)
    memories, queries = _both(pyhue.PixelMemory(12), gpu), rng.random((3, 4, 12))
    layers = None
    for turn in range(4):
        added = rng.random((20, 4, 12))
        for each in memories:
            each.add(added, np.arange(20) % 3)
        for chosen in ({}, {"exclude": [0, 20 * turn + 1, -1]}):  # before more is removed
            _assert_same(memories[1].search(queries, 30, **chosen), memories[0].search(queries, 30, **chosen))
        for gone in ([turn, 7 * turn + 3], [5]):
            for each in memories:
                each.remove(images=gone)
            _assert_same(memories[1].search(queries, 30), memories[0].search(queries, 30))
            found, expected = (each.log_likelihood(queries, 6) for each in memories[::-1])
            np.testing.assert_allclose(found, expected, rtol=1e-13)
            layers = layers or [
                pyhue_nn.MemoryClassifier(each, k=4, differentiable=True) for each in memories
            ]
            maps = torch.tensor(queries)
            results = [layers[0](maps), layers[1](maps.to(gpu.device)).cpu()]
            torch.testing.assert_close(results[1], results[0])
    added = rng.random((100, 4, 12))
    for each in memories:
        each.remove(np.arange(len(each)))
        each.search(queries)
        each.add(added, np.arange(100) % 3)  # in one piece with those, and found without more being removed
    _assert_same(memories[1].search(queries, 9), memories[0].search(queries, 9))
    index = memories[1]._memory._on_gpu._index
    pieces = list(index._pieces)
    memories[1].remove(labels=[0])
    memories[1].search(queries)
    assert memories[1]._memory._on_gpu._index is index
    assert all(one is other for one, other in zip(pieces, index._pieces, strict=True))
    kept = index._choices._left
    memories[1].search(queries)
    assert index._choices._left is kept  # until more is removed or added
    memories[0].remove(labels=[0])
    for each in memories:
        each.compact()
    _assert_same(memories[1].search(queries, 9), memories[0].search(queries, 9))


def test_pieces_are_told_what_is_left(gpu, monkeypatch):
    """On which chunks depend, and no answer."""
    monkeypatch.setattr("pyhue._cuda.pieces._STREAM_BYTES", 512 * 140)
    memory = moved(pyhue.VectorMemory(12, normalize=False), gpu, 0)
    memory.add(draw("relu60", 1280, 12))
    memory.search(np.ones((1, 12)))
    index, calls = memory._on_gpu._index, []

    class Recorded:
        def __getattr__(self, name):
            return getattr(gpu.ops, name)

        def search_piece(self, *arguments):
            calls.append((arguments[5], arguments[8], arguments[12].tolist()))
            gpu.ops.search_piece(*arguments)

    index._ops = Recorded()
    memory.remove(np.arange(300, 1030))
    memory.search(np.ones((1, 12)))
    memory.search(np.ones((1, 12)), where=np.arange(1280) % 8 == 0)
    assert calls == [
        (0, 0, [0, 256, 300]),
        (1024, 300, [0, 250]),
        (0, 0, [0, 32, 38]),
        (1024, 38, [0, 31]),
    ]


def test_pieces_with_nothing_left_are_not_copied(gpu, monkeypatch):
    monkeypatch.setattr("pyhue._cuda.pieces._STREAM_BYTES", 256 * 140)
    cpu = pyhue.PixelMemory(12)
    cpu.add(draw("relu60", 1280, 12).reshape(1280, 1, 12), np.arange(1280) // 300)
    cpu, there = _both(cpu, gpu, 0)
    there.search(np.ones((1, 12)))
    stream, started = there._memory._on_gpu._index._stream, []
    start = stream._start

    def recorded(piece, which):
        started.append(piece.first)
        start(piece, which)

    monkeypatch.setattr(stream, "_start", recorded)
    queries = draw("relu60", 3, 12, 1)
    _assert_same(there.search(queries, labels=[1]), cpu.search(queries, labels=[1]))
    assert started == [256, 512]
    nothing = there.search(queries, labels=[77])
    assert started == [256, 512]
    assert (nothing.indices == -1).all()
    assert np.isposinf(nothing.distances).all()


def test_within_of_tensors(gpu):
    """A query that is not finite finds nothing there, nor does one without a direction."""
    memory = moved(pyhue.VectorMemory(3), gpu)
    memory.add(np.concatenate((np.eye(3), np.zeros((1, 3)), np.eye(3))))
    queries = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, torch.nan, 1], [0, 0, 1]], device=gpu.device)
    found = memory.within(queries, 1)
    assert [part.device.type for part in found] == [gpu.device.type] * 3
    assert [part.dtype for part in found] == [torch.int64, torch.float32, torch.int64]
    assert found.limits.tolist() == [0, 2, 2, 2, 4]
    assert found.indices.tolist() == [0, 4, 2, 6]
    with pytest.raises(ValueError, match="queries: expected finite values, got NaN or Inf in row 2"):
        memory.within(queries.cpu().numpy(), 1)
    with pytest.raises(ValueError, match=r"queries: expected shape \(n, 3\), got \(1, 4, 3\)"):
        memory.within(queries[None], 1)
    with pytest.raises(ValueError, match="got an empty memory"):
        moved(pyhue.VectorMemory(3), gpu).within(queries, 1)


def test_more_queries_than_a_batch(gpu):
    """Distances tie, many are the radius, and each batch has queries of its own to exclude."""
    cpu = pyhue.VectorMemory(5, normalize=False)
    cpu.add(draw("lattice", 40, 5))
    cpu, there = _both(cpu, gpu)
    queries, exclude = draw("lattice", 1100, 5, 1), np.arange(1100) % 41 - 1
    assert gpu.ops.search_batch(torch.tensor(queries), 40) == 1024
    _assert_same(there.search(queries, 40, exclude=exclude), cpu.search(queries, 40, exclude=exclude))
    for radius in (0, 3):
        found = there.within(queries, radius, exclude=exclude)
        _assert_same(found, cpu.within(queries, radius, exclude=exclude))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"where": np.ones(9)}, TypeError, "where: expected booleans"),
        ({"where": np.ones(10, bool)}, ValueError, "where: expected at most 9"),
        ({"exclude": [0, 1]}, ValueError, r"exclude: expected shape \(3,\)"),
        ({"exclude": [0, 1, 9]}, ValueError, "exclude: expected -1 to 8"),
        ({"k": 1025, "where": np.ones(9, bool)}, ValueError, "k: expected at most 1024 on a GPU"),
        ({"recall": 0.9}, RuntimeError, "recall searches on the CPU"),
    ],
)
def test_what_does_not_fit(gpu, arguments, error, message):
    memory = moved(pyhue.VectorMemory(4), gpu)
    memory.add(np.eye(9, 4) + 1)
    with pytest.raises(error, match=message):
        memory.search(np.ones((3, 4)), **({"k": 2} | arguments))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_holds_what_was_removed_and_no_mask():
    activations, labels = torch.rand(30, 9, 40), torch.arange(30) % 5
    cpu, memory = pyhue.PixelMemory(40), pyhue.PixelMemory(40).to("cuda")
    for each in (cpu, memory):
        each.add(activations, labels)
        each.remove(images=[3, 4])
    queries = torch.rand(4, 9, 40, device="cuda")
    memory.predict(queries)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found, classes = memory.search(queries), memory.predict(queries)
    graph.replay()
    assert torch.equal(found.indices.cpu(), cpu.search(queries.cpu()).indices)
    assert torch.equal(classes.cpu(), cpu.predict(queries.cpu()))
    for call, message in (
        (lambda: memory.search(queries, labels=[1]), "a CUDA graph cannot hold what they choose"),
        (lambda: memory.within(queries[0], 1.0), "cannot hold results of unknown size"),
    ):
        with pytest.raises(RuntimeError, match=message), torch.cuda.graph(torch.cuda.CUDAGraph()):
            call()
    memory.remove(images=[5])
    with pytest.raises(RuntimeError, match="search once before"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        memory.search(queries)


@pytest.mark.parametrize("call", ["search", "within", "removed"])
def test_what_a_cuda_graph_cannot_hold(gpu, monkeypatch, call):
    """Where capturing is only pretended: the refusals themselves."""
    memory = moved(pyhue.VectorMemory(4), gpu)
    memory.add(np.eye(9, 4) + 1)
    queries = torch.ones(3, 4, device=gpu.device)
    memory.search(queries, 2)

    def refuse(device, why="search once before"):
        raise RuntimeError(why)

    for module in ("chosen", "search"):
        monkeypatch.setattr(f"pyhue._cuda.{module}.require_no_capture", refuse)
    memory.search(queries, 2)
    calls = {
        "search": (lambda: memory.search(queries, 2, where=[True]), "where, labels, exclude: a CUDA graph"),
        "within": (lambda: memory.within(queries, 2), "within: a CUDA graph"),
        "removed": (lambda: (memory.remove([1]), memory.search(queries, 2)), "search once before"),
    }
    with pytest.raises(RuntimeError, match=calls[call][1]):
        calls[call][0]()
