"""The CUDA search kernels, emulated and on a GPU, against the CPU's own search: the same bits."""

import itertools

import numpy as np
import pytest
from cuda_kernels import kernels
from families import FAMILIES, draw

import pyhue
from pyhue._rows import vector_rows
from pyhue._search.plan import mean
from pyhue._search.stored import Stored

emulation = pytest.importorskip("pyhue._emulation", reason="pyhue was built without PYHUE_EMULATION")


@pytest.fixture(params=["mma", "wgmma"])
def screen(request):
    """The emulated screen of any GPU, and Hopper's, which other tests take."""
    emulation.choose_hopper(request.param == "wgmma")
    yield request.param
    emulation.choose_hopper(True)


@pytest.fixture(params=["mma", "wgmma", "gpu"])
def cuda(request):
    """The kernels, emulated with either screen, and on a GPU with the one that it takes."""
    emulation.choose_hopper(request.param != "mma")
    yield kernels("gpu" if request.param == "gpu" else "emulated")
    emulation.choose_hopper(True)


@pytest.fixture(params=["emulated", "gpu"])
def either(request):
    """The kernels for tests that the screens have in common."""
    return kernels(request.param)


def memory_of(vectors, normalize=False, dtype="float32"):
    memory = pyhue.PixelMemory(vectors.shape[1], normalize=normalize, dtype=dtype)
    memory.add(vectors[None], [0])
    return memory


def far_from_their_mean(n, dim, nearer):
    """Vectors that all survive the screen; `nearer`: the later, the nearer to each other."""
    scale = np.geomspace(100, 0.1, n, dtype=np.float32)[:, None] if nearer else np.float32(1)
    vectors = 1000 + scale * np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)
    vectors[5] = -2500 * n
    return vectors


def assert_same(cuda, memory, queries, k, cuts=(), backwards=False, **selected):
    expected = memory.search(queries, k, **selected)
    distances, indices = cuda.search(memory, queries, k, cuts, backwards, **selected)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(distances.view(np.uint32), expected.distances.view(np.uint32))


@pytest.mark.parametrize("dim", [1, 3, 63, 64, 65, 200])
@pytest.mark.parametrize("n", [1, 31, 33, 129, 600])
def test_odd_sizes(cuda, n, dim):
    for queries in (1, 65):
        assert_same(cuda, memory_of(draw("normal", n, dim)), draw("normal", queries, dim, 1), 10)


@pytest.mark.parametrize(("n", "dim"), [(4097, 33), (2100, 1280), (500, 1920), (70, 4096)])
def test_large_shapes(cuda, n, dim):
    memory = memory_of(draw("relu60", n, dim), normalize=True)
    assert_same(cuda, memory, draw("relu60", 3, dim, 1), 10)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("n", "dim", "queries", "k"),
    [
        (40_000, 1280, 1, 10),
        (40_000, 1280, 65, 1024),
        (40_000, 1920, 300, 10),
        (20_000, 1280, 4200, 10),
        (5_000, 4096, 129, 10),
        (400_000, 63, 256, 100),
    ],
)
def test_shapes_that_fill_a_gpu(n, dim, queries, k, dtype):
    on_gpu = kernels("gpu")  # the emulation would take hours
    memory = memory_of(draw("relu60", n, dim), normalize=True, dtype=dtype)
    for _ in range(2):  # with blocks in another order
        assert_same(on_gpu, memory, draw("relu60", queries, dim, 1), k)


@pytest.mark.parametrize("nearer", [False, True])
def test_lists_of_a_gpu_that_overflow(nearer):
    on_gpu = kernels("gpu")
    vectors = far_from_their_mean(200_000, 64, nearer)
    assert_same(on_gpu, memory_of(vectors), vectors[-300:], 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(cuda, family):
    queries = draw(family, 9, 37, 2)
    assert_same(cuda, memory_of(draw(family, 700, 37, 1)), queries, 10)
    if "overflow" not in family and family != "huge 1e18":
        assert_same(cuda, memory_of(draw(family, 300, 37, 1), dtype="bfloat16"), queries, 3)
    unit = [vector_rows(rows, "rows", True) for rows in (draw(family, 300, 37, 1), queries)]
    assert_same(cuda, memory_of(unit[0]), unit[1], 5)


@pytest.mark.parametrize("k", [1, 15, 16, 17, 100, 1023, 1024])
def test_k(either, k):
    memory = memory_of(draw("lattice", 1500, 9))
    assert_same(either, memory, draw("lattice", 3, 9, 1), k)
    assert_same(either, memory_of(draw("lattice", 20, 9)), draw("lattice", 3, 9, 1), k)


def test_several_batches_of_queries(either):
    k = 1024  # lists are long, so few queries fit a batch
    assert_same(either, memory_of(draw("normal", 300, 2)), draw("normal", 130, 2, 1), k)


@pytest.mark.parametrize(
    ("n", "queries", "nearer", "overflows"),
    [
        (18_600, 2, False, [False, True, True]),
        (4400, 36, False, [False, True]),
        (4400, 3, True, [False, True]),
    ],
)
def test_lists_that_overflow(either, n, queries, nearer, overflows):
    length, vectors = emulation.list_length(10), far_from_their_mean(n, 8, nearer)
    ends = emulation.chunk_ends(0, n, 10)
    assert [end - begin > length for begin, end in itertools.pairwise(ends)] == overflows
    queries = vectors[-queries:]
    kept = emulation.screen_audit(vectors, vectors.mean(0, dtype=np.float64), queries[:1], np.float32([1e-3]))
    assert kept.sum() > length
    # With later vectors ever nearer, a list of those nearer than the k-th best before overflows, too.
    distances = np.square(vectors - queries[0]).sum(1)
    better = (distances[ends[-2] :] < np.sort(distances[: ends[-2]])[9]).sum()
    assert (better > length) == nearer
    assert_same(either, memory_of(vectors), queries, 10)


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("queries", [5, 70])
@pytest.mark.parametrize("dim", [40, 300])
def test_the_screen_keeps_little_more_than_the_certified_filter_of_the_cpu(queries, dim):
    memory = memory_of(draw("relu60", 1000, dim), normalize=True)
    rows = vector_rows(draw("relu60", queries, dim, 1), "queries", True)
    distances = memory.search(rows, 10).distances
    kept = emulation.screen_audit(
        memory.vectors, mean(memory._newest()), rows, np.ascontiguousarray(distances[:, -1])
    )
    assert set(np.unique(kept)) == {0, 1}  # no vector is listed twice
    neighbors = np.zeros_like(kept)
    np.put_along_axis(neighbors, memory.search(rows, 10).indices, 1, axis=1)
    assert not (neighbors & ~kept).any()
    read, _ = memory._memory._on_cpu.index.audit(
        memory._newest(), rows, np.ascontiguousarray(distances[:, -1])
    )
    assert kept.sum() <= 1.3 * (read == 0).sum() + 3


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("dim", [512, 2048])
def test_the_certificate_covers_the_rounding_of_tensor_cores(dim):
    # Numbers that bfloat16 holds, norms far above distances: nothing is left to hide in but the sums' own
    # rounding, of which the emulation has as much as the coarsest GPU.
    vectors, queries = draw("bfloat16", 300, dim), draw("bfloat16", 5, dim, 1)
    distances = memory_of(vectors).search(queries, 300).distances
    for k in (0, 10, 100):
        kept = emulation.screen_audit(vectors, np.zeros(dim), queries, np.ascontiguousarray(distances[:, k]))
        indices = memory_of(vectors).search(queries, k + 1).indices
        assert np.take_along_axis(kept, indices, axis=1).all()


def test_ties_go_to_the_lower_index_whatever_the_order_of_candidates(either):
    vectors = np.tile(draw("normal", 4, 5), (300, 1))
    for _ in range(3):  # the emulation orders blocks and threads at random
        assert_same(either, memory_of(vectors), draw("normal", 3, 5, 1), 20)


def test_queries_that_are_not_finite(either):
    queries = draw("normal", 4, 5, 1)
    queries[1, 2], queries[2, 0] = np.nan, -np.inf
    vectors = draw("normal", 300, 5)
    distances, indices = either.search_rows(Stored(vectors), np.zeros(5), queries, 3)
    assert np.isnan(distances[1:3]).all()
    assert (indices[1:3] == -1).all()
    expected = memory_of(vectors).search(queries[[0, 3]], 3)
    np.testing.assert_array_equal(distances[[0, 3]], expected.distances)
    np.testing.assert_array_equal(indices[[0, 3]], expected.indices)


@pytest.mark.parametrize("k", [1, 10, 100, 1024])
def test_chunks_cover_a_piece_and_what_nothing_bounds_fits_a_list(k):
    for first in (0, 1, 9, 300, 10**9):
        for n in (1, 255, 256, 257, 100_000, 10**9):
            ends = emulation.chunk_ends(first, n, k)
            assert ends[-1] == n
            assert ends == tuple(sorted(set(ends)))
            assert len(ends) <= 10
            assert all(end % 256 == 0 for end in ends[:-1])  # tiles do not straddle chunks
            for begin, end in zip((0, *ends), ends, strict=False):
                assert first + begin >= k or end - begin <= emulation.list_length(k)


def test_scratch_does_not_grow_with_the_queries_or_the_memory():
    for k, dim in ((1, 4096), (10, 1280), (1024, 4096)):
        assert emulation.search_scratch_bytes(emulation.search_batch(k), k, dim) < 200 << 20


@pytest.mark.parametrize("cuts", [(1,), (255, 256, 257), (64, 650), (5, 5, 699), (99, 200, 300)], ids=str)
def test_a_memory_in_pieces(cuda, cuts):
    for family in ("relu60", "duplicated", "20 orders"):
        memory = memory_of(draw(family, 700, 70))
        assert_same(cuda, memory, draw(family, 3, 70, 1), 10, cuts=cuts)
        assert_same(cuda, memory, draw(family, 3, 70, 1), 300, cuts=cuts)
        assert_same(cuda, memory, draw(family, 3, 70, 1), 10, cuts=cuts, backwards=True)


@pytest.mark.parametrize("queries", [63, 64, 128, 129, 256, 300])
def test_every_tile_of_queries(cuda, queries):
    assert_same(cuda, memory_of(draw("relu60", 130, 70)), draw("relu60", queries, 70, 1), 3)


def images_of(vectors, pixels=5):
    """A memory of images of so many vectors."""
    memory = pyhue.PixelMemory(vectors.shape[1], normalize=False)
    memory.add(vectors.reshape(-1, pixels, vectors.shape[1]), np.zeros(len(vectors) // pixels, int))
    return memory


def some(n, which):
    """(n,) booleans: a share at random, or one run, as where rows are sorted by class."""
    if isinstance(which, float):
        return np.random.default_rng(1).random(n) < which
    return (np.arange(n) >= which[0] * n) & (np.arange(n) < which[1] * n)


@pytest.mark.parametrize(
    ("which", "cuts"),
    [(which, ()) for which in (0.0, 0.01, 0.3, 1.0, (0.0, 0.1), (0.9, 1.0), (0.5, 0.52))]
    + [(which, cuts) for which in (0.3, (0.9, 1.0)) for cuts in ((255, 256, 257), (400,))],
    ids=str,
)
def test_some_of_the_vectors(cuda, which, cuts):
    memory, queries = images_of(draw("relu60", 1500, 70)), draw("relu60", 66, 70, 1)
    mask, exclude = some(1500, which), np.arange(66) % 51 * 6 - 1
    assert_same(cuda, memory, queries, 10, cuts, where=mask, exclude=exclude)
    assert_same(cuda, memory, queries[:3], 300, cuts, backwards=True, where=mask)
    assert_same(cuda, memory, queries, 10, cuts, exclude=exclude)
    for radius in (0.0, float(memory.search(queries[:1], 30).distances[0, -1]), np.inf):
        found = cuda.within(memory, queries[:9], radius, cuts, where=mask, exclude=exclude[:9])
        expected = memory.within(queries[:9], radius, where=mask, exclude=exclude[:9])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("nearer", [False, True])
def test_some_of_the_vectors_where_lists_overflow(either, nearer):
    """What may not be found is not looked at again either: it would be the nearest."""
    n = 18_600
    vectors = far_from_their_mean(n, 8, nearer)
    memory, queries = images_of(vectors), vectors[-40::13]
    mask = np.arange(n) % 16 > 0
    exclude = np.arange(n - 40, n, 13) // 5
    assert_same(either, memory, queries, 10, where=mask)
    assert_same(either, memory, queries, 10, exclude=exclude)
    mask[:-1000] = False  # nothing is found before: no threshold, and chunks follow what is left
    assert_same(either, memory, queries, 10, where=mask, exclude=exclude)


@pytest.mark.parametrize("family", ["huge 1e18", "20 orders", "duplicated", "normal"])
def test_within_of_families(cuda, family):
    memory, queries = memory_of(draw(family, 300, 37, 1)), draw(family, 9, 37, 2)
    every = memory.search(queries, 300).distances
    for radius in (every[0, 0], every[4, 40], every[8, 299], np.nextafter(every[3, 7], np.float32(0))):
        found, expected = cuda.within(memory, queries, float(radius)), memory.within(queries, float(radius))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_within_of_several_chunks(either):
    """Lists hold all vectors of a chunk."""
    length = emulation.list_length(1024)
    vectors = np.arange(length + 300, dtype=np.float32)[:, None]
    memory, queries = memory_of(vectors), np.float32([[length], [3]])
    for radius in (16.0, np.inf):
        limits, distances, indices = either.within(memory, queries, radius, (200,))
        near = np.abs(vectors.T - queries) ** 2 <= radius
        assert limits.tolist() == [0, near[0].sum(), near.sum()]
        for query, (begin, end) in enumerate(itertools.pairwise(limits)):
            expected = np.abs(vectors[:, 0] - queries[query])[near[query]] ** 2
            order = np.argsort(expected, kind="stable")
            np.testing.assert_array_equal(distances[begin:end], expected[order])
            np.testing.assert_array_equal(indices[begin:end], np.flatnonzero(near[query])[order])


@pytest.mark.parametrize("k", [1, 10, 1024])
@pytest.mark.parametrize("which", [0.0, 0.01, 0.3, 1.0, (0.0, 0.1), (0.9, 1.0)], ids=str)
def test_chunks_of_what_is_left(k, which):
    """The first fits a list; each is 7 times what was searched before, counted in what may be found."""
    for n in (1, 257, 300_001):
        mask = some(n, which)
        left = [0, *np.cumsum(np.add.reduceat(mask, np.arange(0, n, 256), dtype=int)).tolist()]
        for before in (0, 9, 5000):
            ends = emulation.chunk_ends(before, n, k, left)
            assert ends[-1] == n
            assert all(end % 256 == 0 for end in ends[:-1])
            for begin, end in itertools.pairwise((0, *ends)):
                searched, inside = before + mask[:begin].sum(), mask[begin:end].sum()
                assert searched >= k or inside <= emulation.list_length(k)
                assert end == n or searched + inside >= max(256, 2 * k, 8 * searched)
                assert searched + mask[begin : end - 256].sum() < max(256, 2 * max(16, k), 8 * searched) or (
                    end - begin <= 256
                )
            if mask.all():
                assert ends == emulation.chunk_ends(before, n, k)
