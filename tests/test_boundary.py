"""What enters C++ is checked there: a wrong array is a ValueError that names it, never a wild read."""

import itertools

import numpy as np
import pytest

from pyhue import _core
from pyhue._search.index import Index
from pyhue._search.packed import PackedPiece
from pyhue._search.plan import plain, principal
from pyhue._search.stored import Stored

N, DIM, BLOCK_DIMS, QUERIES, CLUSTERS = 130, 150, 64, 5, 3
ARRAYS = ("order", "blocks", "bounds", "rows", "row_bounds", "cluster_starts")


def _piece():
    vectors = np.random.default_rng(0).random((N, DIM), np.float32)
    plan = principal(np.zeros(DIM), np.eye(DIM), vectors, BLOCK_DIMS, 0)
    piece = Index(Stored(vectors), plan)._pieces[0]
    starts = np.array([0, 64, 64, N])
    return vectors, PackedPiece(0, N, piece.layout, (*piece.arrays[:-1], starts))


def _misaligned(array):
    room = np.empty(array.nbytes + 1, np.uint8)[1:]
    room[:] = array.view(np.uint8).reshape(-1)
    return room.view(array.dtype).reshape(array.shape)


#: What may be wrong with an array: of its bytes only, so that each holds for every array.
WRONG = {
    "shorter": lambda a: a[:-1],
    "longer": lambda a: np.concatenate((a, a[-1:])),
    "another dtype": lambda a: a.astype(np.float64 if a.dtype == np.float32 else np.int16),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "another rank": lambda a: a[None],
    "not contiguous": lambda a: np.repeat(a, 2, axis=0)[::2],
    "not aligned": _misaligned,
    "one value": lambda a: a.reshape(-1)[:1],
}


@pytest.mark.parametrize(
    ("name", "wrong"),
    # A last cluster without vectors is right; bytes have no order.
    sorted(
        {*itertools.product(ARRAYS, WRONG)}
        - {("cluster_starts", "longer"), ("blocks", "big-endian"), ("rows", "big-endian")}
        - {("blocks", "not aligned"), ("rows", "not aligned")}
    ),
)
def test_packed_arrays(name, wrong):
    _, piece = _piece()
    arrays = list(piece.arrays)
    arrays[ARRAYS.index(name)] = WRONG[wrong](arrays[ARRAYS.index(name)])
    # Whether there are as many rows as the others say, those others tell.
    names = "(order|blocks|rows|cluster_starts)" if name == "order" else name
    with pytest.raises(ValueError, match=f"^{names}: expected"):
        _core.Packed(_core.Layout(*piece.layout), *arrays)


def test_every_packed_array_is_checked():
    assert len(_piece()[1].arrays) == len(ARRAYS)


OTHER_LAYOUTS = {
    "blocks": ((128,), 64, (128, DIM)),
    "rows": ((64,), 0, (64, DIM + 64)),
    "row_bounds": ((64,), 0, (DIM,)),
}


@pytest.mark.parametrize("name", OTHER_LAYOUTS)
def test_another_layout(name):
    _, piece = _piece()
    block_ends, row_begin, row_ends = OTHER_LAYOUTS[name]
    with pytest.raises(ValueError, match=f"^{name}:"):
        _core.Packed(_core.Layout(block_ends, row_begin, row_ends, np.ones(row_ends[-1])), *piece.arrays)


IMPOSSIBLE_LAYOUTS = [
    ("block_ends", ((), 0, ())),
    ("block_ends", ((0,), 0, ())),
    ("block_ends", ((-64,), -64, ())),
    ("block_ends", ((4097,), 4097, ())),
    ("block_ends", ((128, 64), 64, ())),
    ("block_ends", ((60, 128), 128, ())),
    ("block_ends", (tuple(range(64, 64 * 18, 64)), 64 * 17, ())),
    ("block_ends", ((60,), 0, (100,))),
    ("row_begin", ((64,), 0, ())),
    ("row_begin", ((64,), 128, (192,))),
    ("row_begin", ((64,), 1, (192,))),
    ("row_begin", ((64,), -64, (192,))),
    ("row_ends", ((64,), 0, (64,))),
    ("row_ends", ((128,), 64, (64, 192))),
    ("row_ends", ((64,), 0, (100, 192))),
    ("row_ends", ((64,), 0, (192, 128))),
    ("row_ends", ((64,), 0, (4160,))),
]


@pytest.mark.parametrize(("name", "layout"), IMPOSSIBLE_LAYOUTS)
def test_impossible_layouts(name, layout):
    with pytest.raises(ValueError, match=f"^{name}:"):
        _core.Layout(*layout, np.ones(max((1, *layout[0], *layout[2]))))


@pytest.mark.parametrize("starts", [[], [1, N], [0, N - 1], [0, 70, 60, N], [0, 2 * N, N]])
def test_clusters_that_are_none(starts):
    _, piece = _piece()
    with pytest.raises(ValueError, match=r"^cluster_starts"):
        _core.Packed(_core.Layout(*piece.layout), *piece.arrays[:-1], np.array(starts, np.int64))


@pytest.mark.parametrize("row", [-1, N, 2**62])
@pytest.mark.parametrize("packed", [True, False])
def test_rows_that_are_not_there(row, packed):
    vectors, piece = _piece()
    order = np.arange(N)
    order[7] = row

    def make():
        made = _core.Packed(_core.Layout(*piece.layout), order, *piece.arrays[1:]) if packed else order
        return _core.Piece(vectors, made)

    with pytest.raises(ValueError, match=r"^order"):
        make()


@pytest.mark.parametrize("wrong", sorted(set(WRONG) - {"shorter", "longer"}))
def test_vectors(wrong):
    vectors, piece = _piece()
    with pytest.raises(ValueError, match=r"^vectors"):
        _core.Piece(WRONG[wrong](vectors), piece.core)


QUERY_ARRAYS = ("vectors", "values", "squared_norms", "clusters")


def _queries(changed=None, change=None, dims=DIM, dim=DIM, clusters=CLUSTERS):
    rng = np.random.default_rng(1)
    arrays = {
        "vectors": rng.random((QUERIES, dim), np.float32),
        "values": rng.random((QUERIES, dims)),
        "squared_norms": rng.random(QUERIES),
        "clusters": rng.integers(0, clusters, (QUERIES, 2)).astype(np.int32),
    }
    if changed:
        arrays[changed] = change(arrays[changed])
    coordinates = _core.Coordinates(arrays["values"], arrays["squared_norms"], 0.0)
    return _core.Queries(arrays["vectors"], coordinates, arrays["clusters"])


def _search(queries, k=2):
    vectors, piece = _piece()
    return _core.search([_core.Piece(vectors, piece.core)], _core.Layout(*piece.layout), queries, k)[:2]


def test_the_right_arrays_pass():
    distances, indices = _search(_queries())
    assert distances.shape == indices.shape == (QUERIES, 2)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", QUERY_ARRAYS)
def test_query_arrays(name, wrong):
    with pytest.raises(ValueError, match=r"^(vectors|values|squared_norms|clusters): expected"):
        _queries(name, WRONG[wrong])


def test_queries_of_another_memory():
    with pytest.raises(ValueError, match=r"^values"):
        _search(_queries(dims=DIM - 1))
    with pytest.raises(ValueError, match=r"^vectors"):
        _search(_queries(dim=DIM + 1))
    for change in (lambda c: c + CLUSTERS, lambda c: c - CLUSTERS):
        with pytest.raises(ValueError, match=r"^clusters"):
            _search(_queries("clusters", change))
    with pytest.raises(ValueError, match=r"^k"):
        _search(_queries(), 0)


def test_pieces_of_different_layouts():
    vectors, piece = _piece()
    other = Index(Stored(vectors), plain(np.zeros(DIM), vectors))._pieces[0]
    pieces = [_core.Piece(vectors, piece.core), _core.Piece(vectors, other.core)]
    with pytest.raises(ValueError, match=r"^pieces"):
        _core.search(pieces, _core.Layout(*piece.layout), _queries(), 1)


def test_packing_what_does_not_fit_or_into_what_is_read_only():
    vectors, piece = _piece()
    identity = _core.Projection(np.zeros(DIM), None)
    fewer = _core.Projection(np.zeros(DIM), np.eye(DIM - 1, DIM))
    with pytest.raises(ValueError, match=r"^vectors"):
        _core.pack(piece.core, identity, np.zeros((N, DIM + 1), np.float32))
    with pytest.raises(ValueError, match=r"^order"):
        _core.pack(piece.core, identity, vectors[: N - 1])
    with pytest.raises(ValueError, match=r"^projection"):
        _core.pack(piece.core, fewer, vectors)
    for array in piece.arrays[1:]:
        array.flags.writeable = False
    with pytest.raises(ValueError, match=r"^packed"):
        _core.pack(piece.core, identity, vectors)


@pytest.mark.parametrize(
    ("vectors", "rows", "named"),
    [
        (np.zeros((3, DIM + 1), np.float32), np.arange(3), "vectors"),
        (np.zeros((3, DIM), np.float64), np.arange(3), "vectors"),
        (np.zeros((3, DIM), np.float32), np.arange(4), "order"),
        (np.zeros((3, DIM), np.float32), np.array([-1]), "order"),
        (np.zeros((3, DIM), np.float32), np.arange(3, dtype=np.int32), "order"),
    ],
)
def test_coordinates_of_rows_that_are_not_there(vectors, rows, named):
    with pytest.raises((ValueError, TypeError), match=named):
        _core.Projection(np.zeros(DIM), None).of_rows(vectors, rows)


def test_distances_of_an_audit():
    vectors, piece = _piece()
    with pytest.raises(ValueError, match=r"^distances"):
        _core.audit(_core.Piece(vectors, piece.core), _queries(), np.zeros(QUERIES + 1, np.float32))


def test_read_only_arrays_are_searched():
    """As they come from joblib, from a mapped file, or out of a pickle's buffers."""
    vectors, piece = _piece()
    expected = _search(_queries())
    for array in (vectors, *piece.arrays):
        array.flags.writeable = False
    packed = _core.Packed(_core.Layout(*piece.layout), *piece.arrays)
    found = _core.search([_core.Piece(vectors, packed)], _core.Layout(*piece.layout), _queries(), 2)[:2]
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
