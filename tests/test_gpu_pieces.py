"""Where the vectors of a memory on a GPU lie, and what is copied when."""

import math
import os
import weakref

import numpy as np
import pytest
from gpu import moved

import pyhue
from pyhue._cuda.pieces import Place, pack, packed_bytes, places, stream_vectors
from pyhue._cuda.stream import wait_for

torch = pytest.importorskip("torch")
pyhue_nn = pytest.importorskip("pyhue.nn")


def test_only_what_was_added_is_copied(gpu):
    rng = np.random.default_rng(0)
    cpu, memory = pyhue.PixelMemory(20), moved(pyhue.PixelMemory(20), gpu)
    queries = rng.random((9, 20), dtype=np.float32)
    lengths = []
    for images in (30, 1, 10, 2, 1, 200):
        added = rng.random((images, 4, 20), dtype=np.float32)
        for each in (cpu, memory):
            each.add(added, np.zeros(images, int))
        before = list(memory._memory._on_gpu._index._pieces) if memory._memory._on_gpu._index else []
        found, expected = memory.search(queries, 150), cpu.search(queries, 150)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
        after = memory._memory._on_gpu._index._pieces
        lengths.append([len(piece.vectors) for piece in after])
        kept = len(after) - 1
        assert all(a is b for a, b in zip(after[:kept], before[:kept], strict=True))
    assert lengths == [[120], [120, 4], [120, 44], [120, 44, 8], [120, 44, 8, 4], [976]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("room", ["all", "packed", "some", "none"])
def test_a_memory_larger_than_the_gpu(gpu, dtype, room, monkeypatch, caplog):
    caplog.set_level("INFO", "pyhue")
    monkeypatch.setattr("pyhue._cuda.pieces._STREAM_BYTES", 256 * 140)  # 256 vectors
    dim, vectors = 40, 1728
    packed = 140 * vectors
    max_bytes = {
        "all": packed + vectors * dim * (4 if dtype == "float32" else 2),
        "packed": packed,
        "some": packed - 1,
        "none": 0,
    }[room]
    both = [pyhue.PixelMemory(dim, dtype=dtype) for _ in range(2)]
    activations = np.random.default_rng(0).random((vectors + 800, 1, dim), dtype=np.float32)
    labels = np.arange(vectors + 800) % 7
    memory = moved(both[1], gpu, max_bytes)
    for end, streamed in (
        (vectors, {"all": 0, "packed": 0, "some": 3, "none": 7}),
        (vectors + 600, {"all": 3, "packed": 3, "some": 6, "none": 10}),
        (vectors + 800, {"all": 4, "packed": 4, "some": 6, "none": 10}),
    ):
        begin = len(memory)
        for each in both:
            each.add(activations[begin:end], labels[begin:end])
        queries = np.random.default_rng(end).random((3, 5, dim))
        expected, found = (each.search(queries, 20) for each in both)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
        told = [message for message in caplog.messages if "no room for all" in message]
        assert bool(told) == (room != "all" or streamed[room] > 0)
        if told:
            places = memory.explain()
            assert told[-1].endswith(
                f"{places['packed_on_gpu']} lie there packed only, each search copies {places['on_host']}"
            )
        likelihoods = [each.log_likelihood(queries) for each in both]
        np.testing.assert_allclose(*likelihoods, rtol=1e-13)
        index = memory._memory._on_gpu._index
        assert [piece.place for piece in index._pieces].count(Place.HOST) == streamed[room]
        used = sum(piece.gpu_bytes for piece in index._pieces)
        assert used + (index._stream.nbytes if room == "some" else 0) <= max_bytes


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


class Recorded:
    """Operators, and of each `search_piece` the first row of the piece, and how many came before."""

    def __init__(self, ops):
        self.ops, self.calls = ops, []

    def __getattr__(self, name):
        return getattr(self.ops, name)

    def search_piece(self, *arguments):
        self.calls.append((arguments[5], arguments[8]))
        self.ops.search_piece(*arguments)


def test_pieces_are_told_how_many_vectors_came_before(gpu, monkeypatch):
    monkeypatch.setattr("pyhue._cuda.pieces._STREAM_BYTES", 256 * 140)
    activations = np.random.default_rng(0).random((1624, 1, 40), dtype=np.float32)
    cpu, memory = pyhue.PixelMemory(40), moved(pyhue.PixelMemory(40), gpu, 512 * 140 + 100 * 300)
    for part in (activations[:1536], activations[1536:]):  # 6 pieces on the host, then one on the GPU
        for each in (cpu, memory):
            each.add(part, np.zeros(len(part), int))
        expected, found = (each.search(activations[:9, 0], 5) for each in (cpu, memory))
        np.testing.assert_array_equal(found.indices, expected.indices)
    index = memory._memory._on_gpu._index
    index._ops = Recorded(index._ops)
    memory.search(activations[0], 5)
    assert index._ops.calls == [(1536, 0), *((256 * i, 88 + 256 * i) for i in range(6))]


def test_tensors_outlive_the_searches_that_read_them(gpu, monkeypatch):
    waited = []
    monkeypatch.setattr("pyhue._cuda.index.wait_for", lambda *_: waited.append(vectors() is not None))
    memory = moved(pyhue.PixelMemory(40), gpu)
    memory.add(np.ones((1, 3, 40)), [0])
    vectors = lambda: None  # noqa: E731
    memory.search(np.ones((1, 40)))
    vectors = weakref.ref(memory._memory._on_gpu._index._pieces[0].vectors)
    waited.clear()
    memory.to("cpu")
    assert waited == [True]
    assert vectors() is None


def test_a_forked_process_does_not_wait_for_a_gpu():
    wait_for(torch.device("cuda:7"), os.getpid() + 1)


def test_a_copy_that_fails_is_begun_anew(gpu, monkeypatch):
    cpu, memory = pyhue.PixelMemory(40), moved(pyhue.PixelMemory(40), gpu)
    activations, queries = (
        np.random.default_rng(3).random((300, 9, 40)),
        np.random.default_rng(4).random((5, 40)),
    )
    for part in (activations[:10], activations[10:]):
        for each in (cpu, memory):
            each.add(part, np.zeros(len(part), int))
        with monkeypatch.context() as patched:
            patched.setattr("pyhue._cuda.index.make_piece", lambda *_: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(MemoryError):
                memory.search(queries)
        np.testing.assert_array_equal(memory.search(queries).indices, cpu.search(queries).indices)


# The second capture at its end is refused before it holds anything.
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_streamed_pieces_on_several_streams(monkeypatch):
    monkeypatch.setattr("pyhue._cuda.pieces._STREAM_BYTES", 1 << 20)
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
    for added, message in ((0, "cannot hold the search"), (1, "search once before a CUDA graph")):
        memory.add(activations[:added], torch.zeros(added, dtype=torch.int64))
        with pytest.raises(RuntimeError, match=message), torch.cuda.graph(torch.cuda.CUDAGraph()):
            memory.search(queries)


def test_packed_arrays_of_others_are_refused(gpu):
    """Blocks and terms are checked where they enter C++."""
    vectors = torch.zeros(130, 70, device=gpu.device)
    center = torch.zeros(70, dtype=torch.float64, device=gpu.device)
    blocks, terms = pack(vectors, center, gpu.ops)
    for wrong in ((blocks[:-1], terms), (blocks, terms[:-1]), (blocks[:, :1], terms), (blocks, terms[:, :2])):
        with pytest.raises(RuntimeError, match="expected those of the vectors"):
            gpu.ops.pack_vectors(vectors, center, *(part.contiguous() for part in wrong))
    with pytest.raises(RuntimeError, match="blocks"):
        gpu.ops.pack_vectors(vectors, center, blocks.float(), terms)
    with pytest.raises(RuntimeError, match="terms"):
        gpu.ops.pack_vectors(vectors, center, blocks, terms.double())


def test_counts_of_other_pieces_are_refused(gpu):
    queries, vectors = torch.zeros(2, 70, device=gpu.device), torch.zeros(257, 70, device=gpu.device)
    center = torch.zeros(70, dtype=torch.float64, device=gpu.device)
    scratch = gpu.ops.begin_search(queries, center, 3, math.inf)
    arguments = scratch, queries, center, 3, vectors, 0, *pack(vectors, center, gpu.ops), 0, None, None, None
    gpu.ops.search_piece(*arguments, torch.tensor([0, 256, 257]))
    with pytest.raises(RuntimeError, match="left: expected that of the vectors"):
        gpu.ops.search_piece(*arguments, torch.tensor([0, 256]))
