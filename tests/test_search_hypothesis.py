"""Search on whatever Hypothesis thinks of: shapes, strides, dtypes, ugly values."""

import itertools

import numpy as np
import pytest
from families import FAMILIES, draw
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import assert_exact, assert_neighbors, assert_same, memory_of, running_at, stored

import pyhue
from pyhue import _core

levels = st.sampled_from(_core.available_isas())
UGLY = [0, -0.0, 1, -1, 1e-45, 1e-38, 1e-30, 1e-19, 1e19, 1.8e19, -3e38, 1 + 2**-23, 2**24, 1e7]
ugly = st.sampled_from(np.array(UGLY, np.float32).tolist())
finite = st.one_of(ugly, st.floats(width=32, allow_nan=False, allow_infinity=False))


@st.composite
def matrices(draw_, dtype=np.float32, elements=finite):
    """Memory vectors and queries; rows of either may repeat rows of the other."""
    dim = draw_(st.integers(1, 70))
    n, nq = draw_(st.integers(1, 80)), draw_(st.integers(0, 9))
    rows = draw_(hnp.arrays(dtype, (draw_(st.integers(1, 8)), dim), elements=elements))
    order = draw_(hnp.arrays(np.int64, n + nq, elements=st.integers(0, len(rows) - 1)))
    both = rows[order]
    steps = draw_(st.sampled_from([None, 1e-7, 1e-3]))
    if steps is not None:
        noise = np.random.default_rng(draw_(st.integers(0, 2**32))).standard_normal(both.shape)
        both = np.clip(both * (1 + steps * noise), -3e38, 3e38).astype(dtype)
    return both[:n], both[n:]


@given(
    data=matrices(), k=st.integers(1, 90), level=levels, threads=st.integers(1, 3), normalize=st.booleans()
)
def test_ugly_values(data, k, level, threads, normalize):
    vectors, queries = data
    with running_at(level, threads):
        memory = memory_of(vectors, normalize=normalize)
        result = memory.search(queries, k)
        compared = stored(queries, normalize=normalize)
    assert_exact(result, compared, memory.vectors, normalize)
    assert_neighbors(*result, compared, memory.vectors, normalize)


@given(
    families=st.lists(st.sampled_from(list(FAMILIES)), min_size=1, max_size=4),
    dim=st.integers(1, 200),
    n=st.integers(1, 300),
    k=st.integers(1, 40),
    scale=st.integers(-20, 10),
    offset=st.sampled_from([0, 1e-3, 1, 1e3, 1e7, 1e15]),
    level=levels,
    seed=st.integers(0, 2**31),
)
@example(["normal", "overflow"], 33, 130, 10, 0, 1e7, "generic", 0)
def test_mixed_families(families, dim, n, k, scale, offset, level, seed):
    """Several families in one memory, translated and scaled together."""
    parts = [draw(family, n, dim, seed).astype(np.float64) * 2.0**scale + offset for family in families]
    vectors = np.clip(np.concatenate(parts), -3e38, 3e38).astype(np.float32)
    queries = np.concatenate([vectors[:2], *(draw(family, 2, dim, seed + 1) for family in families)])
    with running_at(level, 2):
        memory = memory_of(vectors, pieces=len(families))
        assert_exact(memory.search(queries, k), queries, memory.vectors)


LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "Fortran": lambda a: np.asfortranarray(a),
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "reversed channels": lambda a: a[:, ::-1].copy()[:, ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "offset": lambda a: np.pad(a, ((1, 2), (3, 4)), constant_values=np.nan)[1:-2, 3:-4],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_strides_and_dtypes(layout, data):
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64]))
    width = {np.float16: 16, np.float32: 32, np.float64: 32}[dtype]
    values = st.floats(width=width, allow_nan=False, allow_infinity=False)
    vectors, queries = data.draw(matrices(dtype, values))
    normalize, k = data.draw(st.booleans()), data.draw(st.integers(1, 12))
    view = LAYOUTS[layout]
    expected = memory_of(vectors, normalize=normalize)
    memory = pyhue.PixelMemory(vectors.shape[1], normalize=normalize)
    memory.add(view(vectors)[None], [0])
    np.testing.assert_array_equal(memory.vectors, expected.vectors)
    assert_same(memory.search(view(queries), k), expected.search(queries, k))


@given(shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), k=st.integers(1, 5))
def test_leading_shape_of_queries(shape, k):
    memory = memory_of(draw("relu60", 20, 6))
    queries = np.random.default_rng(0).random((*shape, 6))
    result = memory.search(queries, k)
    assert result.distances.shape == result.indices.shape == (*shape, k)
    flat = memory.search(queries.reshape(-1, 6), k)
    np.testing.assert_array_equal(result.indices.reshape(-1, k), flat.indices)


@given(data=matrices(), pieces=st.lists(st.integers(0, 80), max_size=5), k=st.integers(1, 12))
def test_any_interleaving_of_add_and_search(data, pieces, k):
    vectors, queries = data
    memory = pyhue.PixelMemory(vectors.shape[1], normalize=False)
    cuts = [0, *sorted(min(p, len(vectors)) for p in pieces), len(vectors)]
    for start, end in itertools.pairwise(cuts):
        memory.add(vectors[start:end][None], [0])
        if len(memory):
            assert_exact(memory.search(queries, k), queries, vectors[:end])


def test_torch_dtypes():
    torch = pytest.importorskip("torch")

    @given(
        st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
        st.sampled_from(["contiguous", "transposed", "sliced", "expanded", "requires grad"]),
        st.integers(0, 2**31),
    )
    def check(dtype, layout, seed):
        values = torch.randn(40, 24, generator=torch.Generator().manual_seed(seed)).to(dtype)
        given_ = {
            "contiguous": lambda: values,
            "transposed": lambda: values.T.contiguous().T,
            "sliced": lambda: values.repeat_interleave(2, 1)[:, ::2],
            "expanded": lambda: values[:1].expand(40, -1),
            "requires grad": lambda: values.clone().requires_grad_(),
        }[layout]()
        plain = given_.detach().double().numpy()
        memory, expected = pyhue.PixelMemory(24), memory_of(plain, normalize=True)
        memory.add(given_[None], torch.tensor([0]))
        np.testing.assert_array_equal(memory.vectors, expected.vectors)
        result = memory.search(given_[:5], 3)
        assert isinstance(result.distances, torch.Tensor)
        assert_same(pyhue.SearchResult(*(part.numpy() for part in result)), expected.search(plain[:5], 3))

    check()
