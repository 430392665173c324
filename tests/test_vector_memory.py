"""VectorMemory: rows of what is added, exact search, files; beside FAISS's IndexFlatL2 and PixelMemory."""

import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from families import draw
from reference import assert_exact, assert_neighbors, assert_same

import pyhue


def filled(vectors, **options):
    memory = pyhue.VectorMemory(vectors.shape[1], **options)
    memory.add(vectors)
    return memory


def test_rows_are_counted_in_the_order_of_adding():
    memory = pyhue.VectorMemory(3)
    rows = [memory.add(np.ones((n, 3))) for n in (2, 0, 3)]
    assert [part.tolist() for part in rows] == [[0, 1], [], [2, 3, 4]]
    assert all(part.dtype == np.int64 for part in rows)
    assert len(memory) == 5


def test_rows_are_of_the_input_s_kind():
    torch = pytest.importorskip("torch")
    memory = pyhue.VectorMemory(3)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        rows = memory.add(torch.ones(2, 3, dtype=dtype))
        assert isinstance(rows, torch.Tensor)
        assert rows.dtype == torch.int64
    assert rows.tolist() == [6, 7]
    assert isinstance(memory.add([[1.0, 2.0, 3.0]]), np.ndarray)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("normalize", [True, False])
def test_it_answers_as_a_pixel_memory_does(isa, normalize, dtype):
    vectors, queries = draw("relu85", 300, 40), draw("relu85", 12, 40, 1).reshape(3, 4, 40)
    ours = filled(vectors, normalize=normalize, dtype=dtype)
    theirs = pyhue.PixelMemory(40, normalize=normalize, dtype=dtype)
    theirs.add(vectors[:, None], np.arange(300))
    np.testing.assert_array_equal(ours.vectors, theirs.vectors)
    for _ in range(2):
        assert_same(ours.search(queries, 7), theirs.search(queries, 7))
        for memory in (ours, theirs):
            memory.optimize()
    assert ours.explain()["plan"] == theirs.explain()["plan"]


def test_the_neighbours_of_faiss():
    faiss = pytest.importorskip("faiss")
    vectors, queries = draw("uniform", 500, 24), draw("uniform", 20, 24, 1)
    flat = faiss.IndexFlatL2(24)
    flat.add(vectors)
    distances, indices = filled(vectors, normalize=False).search(queries, 10)
    expected, their_indices = flat.search(queries, 10)
    np.testing.assert_array_equal(indices, their_indices)
    np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-5)
    assert_neighbors(distances, indices, queries, vectors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(tmp_path, dtype):
    memory = filled(draw("relu60", 600, 130), dtype=dtype)
    queries = draw("relu60", 9, 130, 1)
    expected = memory.search(queries)
    for optimized in (False, True):
        if optimized:
            memory.optimize()
        memory.save(tmp_path / "memory.safetensors")
        loaded = pyhue.VectorMemory.load(tmp_path / "memory.safetensors")
        assert repr(loaded) == repr(memory)
        assert_same(loaded.search(queries), expected)
        assert loaded.explain() | {"last_search": None} == memory.explain() | {"last_search": None}
    loaded.add(queries)
    assert len(loaded) == 609
    assert len(memory) == 600


def test_any_safetensors_reader_reads_the_file(tmp_path):
    memory = filled(draw("relu60", 20, 8))
    memory.save(tmp_path / "memory.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "memory.safetensors")
    assert list(arrays) == ["vectors"]
    np.testing.assert_array_equal(arrays["vectors"], memory.vectors)


def test_files_are_of_one_kind(tmp_path):
    pixels = pyhue.PixelMemory(3)
    filled(np.ones((2, 3))).save(tmp_path / "vectors.safetensors")
    pixels.save(tmp_path / "pixels.safetensors")
    with pytest.raises(ValueError, match=r"expected a file of format pyhue.PixelMemory, got pyhue.Vector"):
        pyhue.PixelMemory.load(tmp_path / "vectors.safetensors")
    with pytest.raises(ValueError, match=r"expected a file of format pyhue.VectorMemory, got pyhue.Pixel"):
        pyhue.VectorMemory.load(tmp_path / "pixels.safetensors")


def test_repr_and_settings():
    memory = filled(np.ones((2, 3)), normalize=False, dtype="bfloat16")
    assert repr(memory) == "VectorMemory(dim=3, normalize=False, dtype='bfloat16'): 2 vectors"
    assert (memory.dim, memory.normalize, memory.dtype, memory.device) == (3, False, "bfloat16", "cpu")
    assert memory.explain() == {}
    assert not memory.vectors.flags.writeable


BAD = {
    "one dimension": (np.ones(3), ValueError, r"vectors: expected shape \(n, 3\), got \(3,\)"),
    "three dimensions": (
        np.ones((2, 2, 3)),
        ValueError,
        r"vectors: expected shape \(n, 3\), got \(2, 2, 3\)",
    ),
    "other channels": (np.ones((2, 4)), ValueError, r"got \(2, 4\)"),
    "integers": (np.ones((2, 3), int), TypeError, "vectors: expected one of float16"),
    "NaN": (np.full((2, 3), np.nan), ValueError, "vectors: expected finite values, got NaN or Inf in row 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_vectors(case):
    value, error, message = BAD[case]
    memory = filled(np.eye(3))
    with pytest.raises(error, match=message):
        memory.add(value)
    assert len(memory) == 3
    np.testing.assert_array_equal(memory.vectors, np.eye(3))


@pytest.mark.parametrize("kind", [pyhue.VectorMemory, pyhue.PixelMemory])
@pytest.mark.parametrize("normalize", ["l2", 1, None, 0.0])
def test_normalize_is_true_or_false(kind, normalize):
    with pytest.raises(TypeError, match="normalize: expected True or False, got"):
        kind(3, normalize=normalize)
    assert kind(3, normalize=np.bool_(False)).normalize is False


@pytest.mark.parametrize(
    "layout", ["contiguous", "Fortran", "every second", "float64", "float16", "bfloat16"]
)
def test_what_is_converted_in_parts(layout, monkeypatch):
    """Rows and messages count across the parts."""
    monkeypatch.setattr("pyhue._rows._CONVERTED", 5 * 24)
    vectors = draw("normal", 53, 24)
    given = {
        "contiguous": lambda: vectors,
        "Fortran": lambda: np.asfortranarray(vectors),
        "every second": lambda: np.repeat(vectors, 2, axis=1)[:, ::2],
        "float64": lambda: vectors.astype(np.float64),
        "float16": lambda: vectors.astype(np.float16),
        "bfloat16": lambda: pytest.importorskip("torch").tensor(vectors).bfloat16(),
    }[layout]()
    memory = filled(np.ones((2, 24), np.float32), normalize=False)
    memory.add(given)
    expected = np.asarray(given.float() if layout == "bfloat16" else given).astype(np.float32)
    np.testing.assert_array_equal(memory.vectors[2:], expected)
    given[41, 3] = np.nan
    with pytest.raises(ValueError, match="row 41"):
        memory.add(given)


def test_feature_maps_are_converted_in_parts(monkeypatch):
    maps = draw("normal", 8 * 6, 5).reshape(8, 5, 2, 3)
    whole, parts = pyhue.PixelMemory(5), pyhue.PixelMemory(5)
    whole.add(maps, range(8))
    monkeypatch.setattr("pyhue._rows._CONVERTED", 2 * 30)
    parts.add(maps, range(8))
    np.testing.assert_array_equal(whole.vectors, parts.vectors)
    maps[5, 1, 1, 2] = np.inf
    with pytest.raises(ValueError, match="row 35"):
        parts.add(maps, range(8))


def test_adding_and_loading_hold_the_vectors_once(tmp_path, monkeypatch):
    """At the peak, beside what was given: what is stored, and parts that are converted or checked."""
    for name in ("_rows._CONVERTED", "_saved.memory._CHECKED"):
        monkeypatch.setattr(f"pyhue.{name}", 1 << 18)
    vectors = np.asfortranarray(draw("normal", 20_000, 300).astype(np.float16))
    size = 4 * vectors.size
    for call in (lambda: filled(vectors), lambda: pyhue.VectorMemory.load(tmp_path / "memory.safetensors")):
        tracemalloc.start()
        memory = call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size <= peak < 1.2 * size
        memory.save(tmp_path / "memory.safetensors")


def test_k_beyond_what_is_stored():
    vectors = draw("normal", 20, 6)
    memory = filled(vectors, normalize=False)
    assert_exact(memory.search(vectors[:3], 200), vectors[:3], vectors)
    distances, indices = memory.search(vectors[0], 65_536)
    assert indices.shape == (65_536,)
    assert (indices[20:] == -1).all()
    assert np.isposinf(distances[20:]).all()
    for k in (65_537, 10**9):
        message = f"k: expected at most 65536, or the 20 vectors stored where these are more, got {k}"
        with pytest.raises(ValueError, match=message):
            memory.search(vectors, k)
    many = filled(np.ones((65_600, 1), np.float32), normalize=False)
    assert many.search(np.ones((1, 1)), 65_600).indices[0, -1] == 65_599
    with pytest.raises(ValueError, match="got 65601"):
        many.search(np.ones((1, 1)), 65_601)
