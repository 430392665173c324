"""A memory leaves its process: pickles, memory maps, workers; its arrays may be read-only there."""

import copy
import io
import multiprocessing
import pickle

import numpy as np
import pytest
from families import draw
from reference import assert_exact, assert_same

import pyhue

DIM = 48
QUERIES = draw("relu60", 7, DIM, 1)


def _vectors(n=900):
    return draw("relu60", n, DIM)


@pytest.fixture(params=["vectors", "pixels", "optimized", "bfloat16"])
def memory(request):
    dtype = "bfloat16" if request.param == "bfloat16" else "float32"
    if request.param == "vectors":
        memory = pyhue.VectorMemory(DIM, normalize=False)
        memory.add(_vectors())
    else:
        memory = pyhue.PixelMemory(DIM, normalize=False, dtype=dtype)
        memory.add(_vectors().reshape(-1, 3, DIM), np.arange(300) % 5)
    if request.param == "optimized":
        memory.optimize()
    memory.search(QUERIES)
    return memory


def _add(memory, vectors):
    arguments = (
        (vectors,) if isinstance(memory, pyhue.VectorMemory) else (vectors[:, None], [7] * len(vectors))
    )
    memory.add(*arguments)


def _by_pickle_5(memory):
    """With buffers out of band, which nobody may write to."""
    buffers = []
    pickled = pickle.dumps(memory, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=[bytes(buffer.raw()) for buffer in buffers])


def _by_joblib(memory, folder):
    joblib = pytest.importorskip("joblib")
    joblib.dump(memory, folder / "memory")
    return joblib.load(folder / "memory", mmap_mode="r")


WAYS = {
    "pickle": lambda memory, _: pickle.loads(pickle.dumps(memory)),
    "protocol 2": lambda memory, _: pickle.loads(pickle.dumps(memory, protocol=2)),
    "protocol 5, out of band": lambda memory, _: _by_pickle_5(memory),
    "joblib, mapped": _by_joblib,
    "copy": lambda memory, _: copy.copy(memory),
    "deepcopy": lambda memory, _: copy.deepcopy(memory),
}


@pytest.mark.parametrize("way", WAYS)
def test_there_it_searches_and_grows_by_itself(memory, way, tmp_path):
    expected, before = memory.search(QUERIES), memory.vectors.copy()
    other = WAYS[way](memory, tmp_path)
    packed_form = memory.explain()
    packed_form.pop("last_search", None)  # what this one did itself
    assert other.explain() == packed_form
    assert_same(other.search(QUERIES), expected)
    _add(other, QUERIES[:3])
    _add(memory, QUERIES[3:5])  # each behind its own
    for each, added in ((other, QUERIES[:3]), (memory, QUERIES[3:5])):
        np.testing.assert_array_equal(each.vectors[:900], before)
        assert_exact(each.search(QUERIES, 5), QUERIES, each.vectors)
        if memory.dtype == "float32":
            np.testing.assert_array_equal(each.vectors[900:], added)
    if isinstance(memory, pyhue.PixelMemory):
        np.testing.assert_array_equal(other.labels[:900], memory.labels[:900])
        assert other.predict(QUERIES[:3, None], k=1).tolist() == [7] * 3
    other.optimize()
    assert_exact(other.search(QUERIES, 5), QUERIES, other.vectors)


class _Arrays(pickle.Pickler):
    """Notes every array that is pickled."""

    def __init__(self):
        super().__init__(io.BytesIO(), protocol=5, buffer_callback=self._note)
        self.bytes = 0

    def _note(self, buffer):
        self.bytes += buffer.raw().nbytes


def _reach_bytes(memory):
    """Of what `optimize` measured for recalls."""
    vectors = memory if isinstance(memory, pyhue.VectorMemory) else memory._memory
    index = vectors._on_cpu.index
    reach = index and index.reach
    return sum(array.nbytes for array in vars(reach).values()) if reach else 0


def test_a_pickle_holds_used_rows_only(memory):
    memory = pickle.loads(pickle.dumps(memory))
    _add(memory, QUERIES[:1])  # now there is room for as many again
    arrays = _Arrays()
    arrays.dump(memory)
    packed = (memory.explain()["bytes_per_vector"] * 900 if memory.explain() else 0) + 4096
    notes = 0 if isinstance(memory, pyhue.VectorMemory) else 3 * 8 * 901
    reach = _reach_bytes(memory)
    assert arrays.bytes <= packed + notes + reach + DIM * 4 + 5 * 8 * DIM * DIM


def test_nothing_of_the_room_behind_is_pickled():
    memory = pyhue.PixelMemory(DIM, normalize=False)
    memory.add(_vectors(3)[:, None], [0, 1, 2])
    secret = np.float32(1.2345e11)
    memory.add(_vectors(1)[:, None], [3])
    memory._memory._vectors.room(4, 6)[...] = secret  # as a reused page might hold
    assert secret.tobytes() not in pickle.dumps(memory)
    assert secret.tobytes() not in pickle.dumps(copy.copy(memory))


def _found(memory):
    return tuple(memory.search(QUERIES))


def test_in_loky_workers(memory):
    """Which get large arrays as read-only memory maps."""
    joblib = pytest.importorskip("joblib")
    expected = memory.search(QUERIES)
    tasks = joblib.Parallel(n_jobs=2, max_nbytes=1024)(joblib.delayed(_found)(memory) for _ in range(2))
    for found in tasks:
        assert_same(pyhue.SearchResult(*found), expected)


def test_in_a_spawned_process(memory):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_found, (memory,))
    assert_same(pyhue.SearchResult(*found), memory.search(QUERIES))
