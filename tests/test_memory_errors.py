"""Bad input: the message names the argument and what is wrong, and the memory stays as it was."""

import re

import numpy as np
import pytest
from families import draw

import pyhue

GOOD = draw("relu60", 6, 4).reshape(2, 3, 4) + np.float32(0.1)


def _with(value, *where):
    bad = GOOD.astype(np.float64)
    bad[where] = value
    return bad


def _state(memory):
    arrays = (memory.vectors, memory.labels, memory.images, memory.pixels, memory.class_counts)
    return repr(memory), *(part.tobytes() for part in arrays), *(len(part) for part in arrays)


@pytest.fixture(params=[True, False], ids=["searched", "fresh"])
def memory(request):
    """A memory that must be the same after the test, and still work."""
    memory = pyhue.PixelMemory(4, normalize=False)
    memory.add(GOOD, [3, 1])
    expected = memory.search(GOOD, 4) if request.param else None
    before = _state(memory)
    yield memory
    assert _state(memory) == before
    after = memory.search(GOOD, 4)
    if expected is not None:
        np.testing.assert_array_equal(after.indices, expected.indices)
    memory.add(GOOD[:1], [0])
    assert memory.images[-1] == 2


BAD_ACTIVATIONS = {
    "one dimension": (GOOD[0, 0], ValueError, "activations: expected shape (images, pixels, 4)"),
    "two dimensions": (GOOD[0], ValueError, "got (3, 4)"),
    "five dimensions": (GOOD[None, None], ValueError, "activations: expected shape"),
    "wrong dim": (np.zeros((2, 3, 5)), ValueError, "got (2, 3, 5)"),
    "maps of wrong dim": (np.zeros((2, 5, 3, 4)), ValueError, "got (2, 5, 3, 4)"),
    "integers": (np.ones((2, 3, 4), int), TypeError, "activations: expected one of float16, bfloat16"),
    "booleans": (np.ones((2, 3, 4), bool), TypeError, "got bool"),
    "complex": (GOOD.astype(complex), TypeError, "activations: expected one of float16"),
    "objects": (GOOD.astype(object), TypeError, "activations: expected one of float16"),
    "text": ("abc", TypeError, "activations: expected one of float16"),
    "None": (None, TypeError, "activations: expected one of float16"),
    "uneven lists": ([[[1.0, 2.0]], [[1.0]]], ValueError, "activations: expected an array or evenly"),
    "NaN": (
        _with(np.nan, 1, 0, 2),
        ValueError,
        "activations: expected finite values, got NaN or Inf in row 3",
    ),
    "Inf": (_with(np.inf, 0, 2, 0), ValueError, "NaN or Inf in row 2"),
    "-Inf": (_with(-np.inf, 1, 2, 3), ValueError, "NaN or Inf in row 5"),
    "float16 NaN": (_with(np.nan, 0, 1, 1).astype(np.float16), ValueError, "NaN or Inf in row 1"),
    "too large": (_with(1e39, 1, 1, 1), ValueError, "activations: expected values that float32 holds"),
}


@pytest.mark.parametrize("call", ["add", "log_likelihood", "predict"])
@pytest.mark.parametrize("case", BAD_ACTIVATIONS)
def test_bad_activations(memory, case, call):
    value, error, message = BAD_ACTIVATIONS[case]
    arguments = (value, [0, 1]) if call == "add" else (value,)
    with pytest.raises(error, match=re.escape(message)):
        getattr(memory, call)(*arguments)


BAD_LABELS = {
    "too few": ([0], ValueError, "labels: expected shape (2,), one for each image, got (1,)"),
    "too many": ([0, 1, 2], ValueError, "got (3,)"),
    "none": ([], ValueError, "got (0,)"),
    "scalar": (1, ValueError, "got ()"),
    "two dimensions": ([[0, 1]], ValueError, "got (1, 2)"),
    "beyond 63 bits": (
        np.array([0, 2**64 - 1], np.uint64),
        ValueError,
        "labels: expected integers below 2**63",
    ),
    "objects": (np.array([0, 1], object), TypeError, "labels: expected integers, got object"),
    "beyond 64 bits": (
        [0, 2**70],
        ValueError,
        "labels: expected integers from -2**63 to 2**63 - 1, got 1180591620717411303424",
    ),
    "floats": ([0.0, 1.0], TypeError, "labels: expected integers, got float64"),
    "booleans": ([True, False], TypeError, "labels: expected integers, got bool"),
    "text": (["a", "b"], TypeError, "labels: expected integers, got <U1"),
    "None": (None, TypeError, "labels: expected integers, got object"),
    "uneven lists": ([[1], [2, 3]], ValueError, "labels: expected an array or evenly"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(memory, case):
    value, error, message = BAD_LABELS[case]
    with pytest.raises(error, match=re.escape(message)):
        memory.add(GOOD, value)


BAD_QUERIES = {
    "wrong dim": (np.zeros((7, 3)), ValueError, "queries: expected shape (..., 4), got (7, 3)"),
    "scalar": (1.0, ValueError, "queries: expected shape (..., 4), got ()"),
    "empty": ([], ValueError, "queries: expected shape (..., 4), got (0,)"),
    "integers": (np.zeros((7, 4), np.int32), TypeError, "queries: expected one of float16, bfloat16"),
    "uneven lists": ([[1.0], [1.0, 2.0]], ValueError, "queries: expected an array or evenly"),
    "NaN": (_with(np.nan, 1, 1, 0), ValueError, "queries: expected finite values, got NaN or Inf in row 4"),
    "too large": (
        _with(-1e300, 1, 1, 0),
        ValueError,
        "queries: expected values that float32 holds, got a larger",
    ),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_bad_queries(memory, case):
    value, error, message = BAD_QUERIES[case]
    with pytest.raises(error, match=re.escape(message)):
        memory.search(value)


def test_the_row_is_the_first_bad_one_even_late():
    queries = np.zeros((5000, 4))
    queries[[4321, 4999], 2] = np.nan
    memory = pyhue.PixelMemory(4)
    memory.add(GOOD, [0, 1])
    with pytest.raises(ValueError, match="row 4321"):
        memory.search(queries)


@pytest.mark.parametrize("call", ["search", "log_likelihood", "predict"])
@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (0, ValueError, "k: expected at least 1, got 0"),
        (-3, ValueError, "k: expected at least 1, got -3"),
        (2**31, ValueError, "k: expected at most 2147483647, got 2147483648"),
        (2**80, ValueError, "k: expected at most 2147483647"),
        (2.0, TypeError, "k: expected an integer, got float"),
        (True, TypeError, "k: expected an integer, got bool"),
        ("3", TypeError, "k: expected an integer, got str"),
        (None, TypeError, "k: expected an integer, got NoneType"),
    ],
)
def test_bad_k(memory, call, k, error, message):
    with pytest.raises(error, match=message):
        getattr(memory, call)(GOOD, k)


@pytest.mark.parametrize("eps", [0, -1e-9, np.nan, np.inf, "1", None, True])
def test_bad_eps(memory, eps):
    error = ValueError if isinstance(eps, (int, float)) and eps is not True else TypeError
    with pytest.raises(error, match="eps: expected a"):
        memory.log_likelihood(GOOD, eps=eps)
    with pytest.raises(error, match="eps: expected a"):
        memory.predict(GOOD, eps=eps)


def test_eps_is_looked_at_before_anything_is_searched(memory, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(memory._memory._on_cpu, "neighbors", None)
        for call in (memory.log_likelihood, memory.predict):
            with pytest.raises(ValueError, match="eps: expected a positive number, got 0"):
                call(GOOD, eps=0)


@pytest.mark.parametrize("kind", [pyhue.PixelMemory, pyhue.VectorMemory])
@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "", None, 0])
def test_devices_that_there_are_not(kind, device):
    memory = kind(3)
    with pytest.raises(ValueError, match=f"device: expected 'cpu' or 'cuda'.*, got '{device}'"):
        memory.to(device)
    assert memory.device == "cpu"
    assert memory.to("cpu") is memory


@pytest.mark.parametrize("call", ["search", "log_likelihood", "predict"])
def test_k_beyond_what_is_stored_is_not_allocated(memory, call):
    with pytest.raises(
        ValueError, match=r"k: expected at most 65536, or the 6 vectors stored .* got 1000000000"
    ):
        getattr(memory, call)(GOOD, 10**9)


@pytest.mark.parametrize("call", ["search", "log_likelihood", "predict"])
def test_empty_memory(call):
    memory = pyhue.PixelMemory(4)
    with pytest.raises(ValueError, match="memory: expected at least one stored vector"):
        getattr(memory, call)(GOOD)
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("dim", "error", "message"),
    [
        (0, ValueError, "dim: expected at least 1, got 0"),
        (-1, ValueError, "dim: expected at least 1"),
        (4097, ValueError, "dim: expected at most 4096, got 4097"),
        (2.0, TypeError, "dim: expected an integer, got float"),
        (False, TypeError, "dim: expected an integer, got bool"),
        (None, TypeError, "dim: expected an integer, got NoneType"),
    ],
)
def test_bad_dim(dim, error, message):
    with pytest.raises(error, match=message):
        pyhue.PixelMemory(dim)


def test_running_out_of_memory_changes_nothing(memory, monkeypatch):
    """Wherever it happens."""

    def fail(*_, **__):
        raise MemoryError

    for owner, name in ((np, "empty"), (np, "zeros"), (np, "repeat"), (np, "union1d"), (np, "bincount")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail)
            with pytest.raises(MemoryError):
                memory.add(GOOD, [0, 2**31 - 1])


def test_bad_tensors(memory):
    torch = pytest.importorskip("torch")
    for bad, message in [
        (torch.zeros(2, 4, device="meta"), "queries: expected a CPU tensor, got one on meta"),
        (torch.eye(4).to_sparse(), "queries: expected a dense tensor"),
        (torch.zeros(2, 4, dtype=torch.int32), "queries: expected one of float16"),
        (
            torch.zeros(2, 4, dtype=torch.float8_e4m3fn),
            "queries: expected a dense tensor of a dtype that NumPy has",
        ),
    ]:
        with pytest.raises(TypeError, match=message):
            memory.search(bad)
