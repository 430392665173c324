"""The density as a layer: values and gradients against plain torch in float64, at every level."""

import copy
import gc
import math
import pickle

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from density_reference import log_density, reference_pixel_density
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhue import PixelMemory, _core
from pyhue.nn import MemoryClassifier
from pyhue.nn._memories import handle_of
from pyhue.nn.functional import pixel_density

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(params=_core.available_isas())
def torch_isa(request):
    before = torch.ops.pyhue.isa("")
    yield torch.ops.pyhue.isa(request.param)
    torch.ops.pyhue.isa(before)


def memory_and_activations(
    images=3, pixels=4, dim=6, stored=12, dtype=torch.float64, seed=0, normalize=True, storage="float32"
):
    generator = torch.Generator().manual_seed(seed)
    memory = PixelMemory(dim, normalize, storage)
    memory.add(torch.randn(stored, 2, dim, generator=generator), torch.arange(stored) % 3)
    activations = torch.randn(images, pixels, dim, dtype=torch.float64, generator=generator).to(dtype)
    return memory, activations.requires_grad_()


def gradient_of(log_likelihood, activations):
    """Of a loss that weighs every class that somebody votes for."""
    weights = torch.linspace(0.5, 2, max(1, log_likelihood.numel()), dtype=torch.float64)
    finite = log_likelihood.isfinite()
    loss = (weights[: log_likelihood.numel()].reshape(log_likelihood.shape) * log_likelihood)[finite].sum()
    return torch.autograd.grad(loss, activations)[0]


def assert_agrees(activations, memory, k, eps):
    found = pixel_density(activations, memory, k, eps)
    expected = reference_pixel_density(activations, memory, k, eps)
    wide = activations.dtype == torch.float64
    assert found.dtype == (torch.float64 if wide else torch.float32)
    # Distances in float32 are wrong by 1e-6 or so of what is compared, exponents by that over the bandwidth.
    close = {"rtol": 1e-10, "atol": 1e-10} if wide else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found.double(), expected.double(), **close)
    ours, theirs = (gradient_of(value, activations).double() for value in (found, expected))
    if theirs.numel():
        largest = max(theirs.abs().max().item(), 1e-2)
        tolerance = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-3, torch.float64: 1e-9}
        torch.testing.assert_close(
            ours / largest, theirs / largest, rtol=0, atol=tolerance[activations.dtype]
        )


@pytest.mark.usefixtures("torch_isa")
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 17, 31, 32, 33, 100])
def test_agrees_with_the_formula(dim, normalize, storage):
    for dtype in DTYPES:
        options = {"dim": dim, "normalize": normalize, "storage": storage}
        memory, activations = memory_and_activations(dtype=dtype, **options)
        assert_agrees(activations, memory, 5, 0.5)


@pytest.mark.usefixtures("torch_isa")
@settings(max_examples=40)
@given(
    st.integers(0, 4),
    st.integers(0, 5),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([1e-2, 1.0, 30.0]),
    st.booleans(),
    st.sampled_from(DTYPES),
    st.integers(0, 1000),
)
def test_agrees_for_any_shape(images, pixels, dim, k, eps, normalize, dtype, seed):
    shape = {"images": images, "pixels": pixels, "dim": dim, "stored": 5, "seed": seed}
    memory, activations = memory_and_activations(dtype=dtype, normalize=normalize, **shape)
    assert_agrees(activations, memory, k, eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bit_identical_for_any_number_of_threads(dtype):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            memory, activations = memory_and_activations(images=9, pixels=50, dtype=dtype)
            found = pixel_density(activations, memory, 5, 0.5)
            results.append((found, gradient_of(found, activations)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(map(torch.equal, results[0], result))


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scales_of_normalised_activations(scale):
    memory, activations = memory_and_activations()
    small = (activations.detach() * scale).requires_grad_()
    expected = gradient_of(pixel_density(activations, memory, 5, 0.1), activations)
    for dtype in (torch.float64, torch.float32):
        leaf = small.detach().to(dtype).requires_grad_()
        gradient = gradient_of(pixel_density(leaf, memory, 5, 0.1), leaf)
        torch.testing.assert_close(gradient.double() * scale, expected, rtol=1e-4, atol=1e-6)


def test_scales_beyond_the_squares_of_float64():
    memory, activations = memory_and_activations()
    for scale in (2.0**-600, 2.0**600):
        leaf = (activations.detach() * scale).requires_grad_()
        gradient = gradient_of(pixel_density(leaf, memory, 5, 0.1), leaf)
        expected = gradient_of(pixel_density(activations, memory, 5, 0.1), activations)
        torch.testing.assert_close(gradient * scale, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_those_of_the_memory_to_the_bit(dtype):
    memory, activations = memory_and_activations(dtype=dtype)
    expected = memory.log_likelihood(activations.detach(), k=4, eps=1e-3).float()
    assert torch.equal(pixel_density(activations, memory, 4, 1e-3), expected)


def test_feature_maps_of_any_strides():
    memory, _ = memory_and_activations()
    maps = torch.randn(3, 6, 2, 4, dtype=torch.float64)
    for strided in (
        maps,
        maps.to(memory_format=torch.channels_last),
        maps.permute(0, 1, 3, 2),
        maps[:, :, :, ::2],
    ):
        leaf = strided.detach().requires_grad_()
        assert_agrees(leaf, memory, 4, 0.1)


@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"storage": "bfloat16"}])
@pytest.mark.parametrize(("k", "eps"), [(1, 0.3), (4, 1e-8), (4, 0.3), (30, 2.0)])
def test_gradcheck(options, k, eps):
    memory, activations = memory_and_activations(**options)

    def voted(activations):
        return pixel_density(activations, memory, k, eps).nan_to_num(neginf=0)

    assert torch.autograd.gradcheck(voted, activations)


def operands(labels, distances=None, dim=5, classes=3, dtype=torch.float64):
    """What the operator of the backward takes, of neighbours that are random vectors."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor(labels)
    vectors = torch.randn(labels.numel(), dim, generator=generator)
    activations = torch.randn(*labels.shape[:2], dim, dtype=torch.float64, generator=generator)
    indices = torch.where(labels >= 0, torch.arange(labels.numel()).reshape(labels.shape), -1)
    unit = F.normalize(activations, dim=-1)
    if distances is None:
        distances = (unit[:, :, None] - vectors[indices].double()).square().sum(-1)
    counts = torch.arange(2, 2 + classes)
    found = torch.from_numpy(_core.density(distances.numpy(), labels.numpy(), counts.numpy(), 0.1))
    gradient = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    tensors = (gradient, found, activations, distances, indices, labels, counts)
    return [t.to(dtype) if i in (2, 3) else t for i, t in enumerate(tensors)], vectors


def test_missing_neighbours_do_not_count():
    labels = [[[0, -1, 1], [-1, 2, -1], [-1, -1, -1]], [[-1, -1, -1]] * 3]
    (gradient, found, activations, *others), vectors = operands(labels)
    got = torch.ops.pyhue.density_backward(gradient, found, activations, *others, [vectors], True, 0.1)
    leaf = activations.clone().requires_grad_()
    expected = log_density(leaf, vectors[others[1]], others[2], others[3], normalize=True, eps=0.1)
    torch.testing.assert_close(found, expected)
    there = expected.isfinite()
    (theirs,) = torch.autograd.grad((gradient * expected)[there].sum(), leaf)
    torch.testing.assert_close(got, theirs)
    assert not got[0, 2].any()
    assert not got[1].any()
    assert got[0, :2].any(-1).all()


def test_a_class_without_votes_passes_nothing_on():
    (gradient, found, *others), vectors = operands([[[0, 0, 2]]])
    assert found[0, 1] == -math.inf
    gradients = []
    for upstream in (0.0, 1.0, math.inf, math.nan):
        gradient[0, 1] = upstream
        gradients.append(torch.ops.pyhue.density_backward(gradient, found, *others, [vectors], True, 0.1))
    assert all(torch.equal(one, gradients[0]) for one in gradients)
    assert gradients[0].isfinite().all()


def test_distances_that_overflowed_have_no_gradient():
    huge = torch.full((1, 1, 2), torch.inf, dtype=torch.float64)
    (*tensors,), vectors = operands([[[0, 1]]], huge)
    assert not torch.ops.pyhue.density_backward(*tensors, [vectors], False, 0.1).any()


def test_pieces_are_one_array():
    (*tensors,), vectors = operands([[[0, 1, 2], [2, 1, 0]]], dtype=torch.float32)
    expected = torch.ops.pyhue.density_backward(*tensors, [vectors], True, 0.1)
    for cuts in ([1, 5], [0, 2, 4], [3, 3]):
        pieces = torch.split(vectors, cuts if sum(cuts) == 6 else [*cuts, 6 - sum(cuts)])
        assert torch.equal(torch.ops.pyhue.density_backward(*tensors, list(pieces), True, 0.1), expected)


@pytest.mark.parametrize("eps", [1e-30, 1e-8, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", [True, False])
def test_defined_at_distance_0(normalize, dtype, eps):
    memory, _ = memory_and_activations(normalize=normalize)
    leaf = torch.tensor(memory.vectors[:8]).reshape(2, 4, 6).to(dtype).requires_grad_()
    found = pixel_density(leaf, memory, 5, eps)
    assert (found.float() < 1e30).all()
    assert gradient_of(found, leaf).isfinite().all()


def test_all_zero_pixels_get_no_gradient():
    memory, activations = memory_and_activations()
    with torch.no_grad():
        activations[0, 1] = activations[2] = 0
    gradient = gradient_of(pixel_density(activations, memory, 5, 0.1), activations)
    assert gradient.isfinite().all()
    assert not gradient[0, 1].any()
    assert not gradient[2].any()
    assert gradient[0, 0].any()


def one_neighbor():
    """Two images of one pixel, which finds only one class."""
    memory = PixelMemory(3)
    memory.add(torch.eye(3)[:, None], [0, 1, 2])
    return memory, torch.tensor([[[1.0, 0.2, 0.1]], [[0.1, 1.0, 0.4]]], requires_grad=True)


def test_cross_entropy_of_classes_that_nobody_voted_for():
    memory, activations = one_neighbor()
    found = pixel_density(activations, memory, k=2, eps=0.1)
    assert found.isneginf().sum() == 2
    loss = F.cross_entropy(found, torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert activations.grad.isfinite().all()
    assert activations.grad.any(-1).all()


def test_cross_entropy_of_a_target_that_nobody_voted_for():
    memory, activations = one_neighbor()
    found = pixel_density(activations, memory, k=2, eps=0.1)
    target = torch.tensor([2, 0])
    assert found[0, 2].isneginf()
    loss = F.cross_entropy(found, target)
    assert loss.isposinf()
    (unbounded,) = torch.autograd.grad(loss, activations, retain_graph=True)
    assert unbounded.isfinite().all()
    bounded = F.cross_entropy(found.clamp(min=-30), target)
    assert bounded.isfinite()
    (gradient,) = torch.autograd.grad(bounded, activations)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_cross_entropy_of_an_image_without_any_neighbour():
    """Its loss is NaN, as torch's of a row of -inf; its gradient is not, nor that of the others."""
    (_, found, *others), vectors = operands([[[-1, -1]], [[0, 1]]])
    rows = found.clone().requires_grad_()
    losses = F.cross_entropy(rows, torch.tensor([0, 1]), reduction="none")
    assert losses[0].isnan()
    (gradient,) = torch.autograd.grad(losses.mean(), rows)
    got = torch.ops.pyhue.density_backward(gradient, found, *others, [vectors], True, 0.1)
    assert got.isfinite().all()
    assert not got[0].any()
    assert got[1].any()


def test_what_is_added_before_the_backward_does_not_matter():
    memory, activations = memory_and_activations()
    expected = gradient_of(pixel_density(activations, memory, 5, 0.1), activations)
    found = pixel_density(activations, memory, 5, 0.1)
    memory.add(activations.detach(), [0, 5, 5])
    torch.testing.assert_close(gradient_of(found, activations), expected, rtol=0, atol=0)


def test_a_graph_keeps_its_memory():
    memory, activations = memory_and_activations()
    expected = gradient_of(pixel_density(activations, memory, 5, 0.1), activations)
    found = pixel_density(activations, copy.deepcopy(memory), 5, 0.1)
    gc.collect()
    torch.testing.assert_close(gradient_of(found, activations), expected, rtol=0, atol=0)


@pytest.mark.parametrize("differentiable", [False, True])
def test_a_memory_that_is_gone_is_an_error(differentiable):
    memory, activations = memory_and_activations()
    layer = MemoryClassifier(memory, differentiable=differentiable)
    layer._memory = None
    del memory
    gc.collect()
    with pytest.raises(RuntimeError, match="memory: expected one that lives"):
        layer(activations)


@pytest.mark.parametrize("differentiable", [False, True])
def test_the_memory_of_a_layer_can_be_exchanged(differentiable):
    (first, activations), (second, _) = memory_and_activations(), memory_and_activations(seed=1)
    layer = MemoryClassifier(first, k=4, eps=0.1, differentiable=differentiable)
    expected = [MemoryClassifier(m, 4, 0.1, differentiable)(activations) for m in (first, second)]
    before = layer(activations)
    layer.memory = second
    assert layer.memory is second
    assert torch.equal(before, expected[0])
    assert torch.equal(layer(activations), expected[1])
    assert not torch.equal(*expected)


def test_a_backward_after_the_exchange_is_of_the_memory_before():
    (first, activations), (second, _) = memory_and_activations(), memory_and_activations(seed=1)
    layer = MemoryClassifier(first, 4, 0.1, differentiable=True)
    expected = gradient_of(layer(activations), activations)
    found = layer(activations)
    layer.memory = second
    torch.testing.assert_close(gradient_of(found, activations), expected, rtol=0, atol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_of_layers(copied):
    memory, activations = memory_and_activations()
    layer = MemoryClassifier(memory, 4, 0.1, differentiable=True)
    twin = copied(layer)
    assert torch.equal(twin(activations), layer(activations))
    assert twin.memory is not memory
    assert "differentiable=True" in repr(twin)


@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_compares_in_float32(dtype):
    memory, activations = memory_and_activations(dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pixel_density(activations, memory, 4, 0.1)
    assert torch.equal(found, pixel_density(activations, memory, 4, 0.1))
    assert gradient_of(found, activations).dtype == dtype


def test_no_gradient_where_none_is_wanted():
    memory, activations = memory_and_activations()
    assert not pixel_density(activations.detach(), memory).requires_grad
    with torch.no_grad():
        assert not pixel_density(activations, memory).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype):
    memory, activations = memory_and_activations(dtype=dtype)
    arguments = (activations.detach(), handle_of(memory), 3, 5, 0.1)
    torch.library.opcheck(torch.ops.pyhue.pixel_density.default, arguments)
    outputs = torch.ops.pyhue.pixel_density(*arguments)
    gradient = torch.rand(3, 3, dtype=torch.float64)
    backward = torch.ops.pyhue.pixel_density_backward.default
    torch.library.opcheck(backward, (gradient, arguments[0], *outputs, arguments[1], 0.1))


def test_functional_transforms():
    memory, activations = memory_and_activations()
    activations = activations.detach()

    def loss(image):
        return pixel_density(image[None], memory, 5, 0.1).nan_to_num(neginf=0).sum()

    leaf = activations.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sum(loss(image) for image in leaf), leaf)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(activations), expected)
    together = torch.func.grad(lambda images: torch.func.vmap(loss, in_dims=1)(images).sum())
    torch.testing.assert_close(together(activations.movedim(0, 1)), expected.movedim(0, 1))
    jacobian = torch.func.jacrev(lambda x: pixel_density(x, memory, 5, 0.1).nan_to_num(neginf=0))(activations)
    torch.testing.assert_close(jacobian.sum((0, 1)), expected)


@pytest.mark.parametrize("transformed", [False, True])
def test_double_backward_says_no(transformed):
    memory, activations = memory_and_activations()

    def loss(activations):
        return pixel_density(activations, memory, 5, 0.1).nan_to_num(neginf=0).sum()

    def gradient_norm(activations):
        if transformed:
            return torch.func.grad(loss)(activations).square().sum()
        (gradient,) = torch.autograd.grad(loss(activations), activations, create_graph=True)
        return gradient.square().sum()

    with pytest.raises(RuntimeError, match="no double backward"):
        torch.func.grad(gradient_norm)(activations.detach()) if transformed else gradient_norm(
            activations
        ).backward()


# torch's forward mode uses torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_says_no():
    memory, activations = memory_and_activations()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(activations.detach(), torch.ones_like(activations))
        with pytest.raises(NotImplementedError, match="jvp"):
            pixel_density(dual, memory)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"activations": torch.zeros(2, 3, 5)},
            ValueError,
            r"activations: expected shape \(images, pixels, 6\)",
        ),
        ({"activations": torch.zeros(2, 5, 2, 2)}, ValueError, r"activations: expected shape"),
        ({"activations": torch.zeros(6)}, ValueError, r"activations: expected shape"),
        ({"activations": torch.zeros(2, 3, 6, dtype=torch.int64)}, TypeError, "activations: .*int64"),
        ({"activations": torch.full((2, 3, 6), math.nan)}, ValueError, "activations: expected finite"),
        ({"activations": [[[0.0] * 6]]}, TypeError, "activations: expected a tensor, got list"),
        ({"memory": "memory"}, TypeError, "memory: expected a PixelMemory, got str"),
        ({"memory": PixelMemory(6)}, ValueError, "memory: .*empty"),
        ({"k": 0}, ValueError, "k: expected at least 1"),
        ({"eps": 0.0}, ValueError, "eps: expected a positive number"),
        ({"eps": math.nan}, ValueError, "eps: expected a positive number"),
    ],
)
def test_wrong_arguments(change, error, message):
    memory, activations = memory_and_activations()
    arguments = {"activations": activations, "memory": memory, "k": 5, "eps": 0.1} | change
    with pytest.raises(error, match=message):
        pixel_density(**arguments)
