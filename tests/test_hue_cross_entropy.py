"""The fused hue loss against plain torch in float64, at every instruction-set level."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hue_reference import UGLY_LOGITS, reference_hue_cross_entropy
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhue import _core
from pyhue.nn.functional import hue_cross_entropy, hue_labels

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Of losses and gradients relative to the largest entry or 0.01; 16-bit results round once at the end.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}


@pytest.fixture(params=_core.available_isas(), autouse=True)
def isa(request):
    before = torch.ops.pyhue.isa("")
    yield torch.ops.pyhue.isa(request.param)
    torch.ops.pyhue.isa(before)


def example(rows, classes, dtype=torch.float32, probabilities=False, seed=0, per_class=False):
    generator = torch.Generator().manual_seed(seed)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    input = (3 * torch.randn(rows, classes, generator=generator)).to(dtype).requires_grad_()
    hue_shape = (rows, classes, 2) if per_class else (rows, 2)
    hue = torch.randn(hue_shape, generator=generator, dtype=real).requires_grad_()
    labels = hue_labels(classes, generator=generator).to(real).requires_grad_()
    if probabilities:
        target = torch.rand(rows, classes, generator=generator, dtype=real).softmax(1)
        return input, hue, target.requires_grad_(), labels
    return input, hue, torch.randint(classes, (rows,), generator=generator), labels


def loss_and_gradients(function, arguments, **options):
    input, hue, target, labels = arguments
    loss = function(input, hue, target, labels, **options)
    upstream = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    gradients = torch.autograd.grad(loss, [t for t in arguments if t.requires_grad], upstream)
    return loss, *gradients


def assert_agrees(arguments, **options):
    actual = loss_and_gradients(hue_cross_entropy, arguments, **options)
    expected = loss_and_gradients(reference_hue_cross_entropy, arguments, **options)
    tolerance = TOLERANCE[arguments[0].dtype]
    # Hue's loss and gradient are differences of terms of about this size.
    terms = 0.1 * options.get("hue_weight", 1.0) * (options.get("hue_scale") or 0.5)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        if theirs.numel():
            largest = theirs.abs().nan_to_num(0, 0, 0).max().item()
            torch.testing.assert_close(
                ours.double(),
                theirs.double(),
                rtol=0,
                atol=tolerance * max(largest, terms, 1e-2),
                equal_nan=True,
            )


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_agrees_with_reference(dtype, data):
    rows = data.draw(st.integers(1, 9), "rows")
    classes = data.draw(st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 101, 300]), "classes")
    probabilities = data.draw(st.booleans(), "probabilities")
    seed, per_class = data.draw(st.integers(0, 999), "seed"), data.draw(st.booleans(), "per_class")
    arguments = example(rows, classes, dtype, probabilities, seed, per_class)
    ignored = -100 if probabilities else data.draw(st.sampled_from([-100, 0, 5]), "ignore_index")
    if not probabilities and rows > 1:
        arguments[2][0] = ignored
        arguments[2][1:].clamp_(max=classes - 1)
    weight = torch.linspace(0.2, 2, classes)
    options = {
        "hue_weight": data.draw(st.sampled_from([1.0, 0.0, 30.0]), "hue_weight"),
        "hue_scale": data.draw(st.sampled_from([None, 0.0, 1.0, 50.0]), "hue_scale"),
        "weight": weight if data.draw(st.booleans(), "weight") else None,
        "ignore_index": ignored,
        "reduction": data.draw(st.sampled_from(["none", "mean", "sum"]), "reduction"),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0]), "label_smoothing"),
        "lse_square_scale": data.draw(st.sampled_from([0.0, 1e-4, 2.0]), "lse_square_scale"),
        "softcap": data.draw(st.sampled_from([None, 0.5, 5.0, 30.0]), "softcap"),
    }
    assert_agrees(arguments, **options)


@pytest.mark.parametrize(
    ("rows", "classes", "dtype"),
    [
        *((rows, classes, dtype) for rows, classes in [(3, 2048), (3, 2049), (2, 5000)] for dtype in DTYPES),
        (120, 21841, torch.float32),  # its gradient is streamed
    ],
)
@pytest.mark.parametrize(("label_smoothing", "softcap"), [(0.0, None), (0.1, None), (0.0, 4.0)])
def test_many_classes(dtype, label_smoothing, softcap, rows, classes):
    options = {"label_smoothing": label_smoothing, "softcap": softcap, "hue_weight": float(classes)}
    assert_agrees(example(rows, classes, dtype), **options)


@pytest.mark.parametrize("hue_scale", [None, 1.0, 200.0])
def test_hue_of_every_class(hue_scale):
    arguments = example(5, 2100, per_class=True)
    assert_agrees(arguments, hue_weight=100.0, hue_scale=hue_scale)
    input, hue, target, labels = example(5, 21)
    same = hue.detach()[:, None].expand(5, 21, 2).clone().requires_grad_()
    one = loss_and_gradients(hue_cross_entropy, (input, hue, target, labels), hue_scale=hue_scale)
    every = loss_and_gradients(hue_cross_entropy, (input, same, target, labels), hue_scale=hue_scale)
    for ours, theirs in zip((*every[:2], every[2].sum(1), every[3]), one, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


def test_streamed_gradient_of_doubles_at_odd_addresses():
    assert_agrees(example(60, 20001, torch.float64), label_smoothing=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", UGLY_LOGITS)
@pytest.mark.parametrize(("label_smoothing", "softcap"), [(0.0, None), (0.2, None), (0.0, 9.0), (0.2, 9.0)])
def test_infinite_nan_and_huge_logits_as_torch(dtype, row, label_smoothing, softcap):
    input = torch.tensor([row, [0.0, 1.0, 2.0]], dtype=dtype, requires_grad=True)
    hue = torch.tensor([[0.3, 0.4], [0.0, 1.0]], requires_grad=True)
    target = torch.tensor([0, 2])
    options = {"label_smoothing": label_smoothing, "reduction": "none"}
    ours = hue_cross_entropy(input, hue, target, torch.zeros(3, 2), softcap=softcap, **options) - math.log(3)
    logits = input.double() if softcap is None else softcap * torch.tanh(input.double() / softcap)
    theirs = F.cross_entropy(logits, target, **options)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=10 * tolerance, equal_nan=True)
    gradients = [torch.autograd.grad(loss.sum(), input)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_minus_infinity_in_a_whole_block():
    input = torch.full((1, 5000), -math.inf)
    input[0, 4500] = 1.0
    input.requires_grad_()
    assert_agrees((input, torch.zeros(1, 2, requires_grad=True), torch.tensor([4500]), hue_labels(5000)))


@pytest.mark.parametrize(
    "hue", [[math.nan, 0.0], [math.inf, 0.0], [1.0, 0.0], [0.0, 0.0], [1e-15, 0.0], [1e3, -1e3]]
)
def test_ugly_hue(hue):
    labels = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    arguments = (torch.zeros(1, 3), torch.tensor([hue], requires_grad=True), torch.tensor([0]), labels)
    assert_agrees(arguments, hue_scale=1.0)


def test_exp_is_within_two_ulp():
    # The gradient at class 1 of logits (0, x) is e^x / (1 + e^x), which is e^x where e^x is small.
    x = torch.linspace(-87, -17, 200_001, dtype=torch.float32)
    input = torch.stack((torch.zeros_like(x), x), 1).requires_grad_()
    zeros = torch.zeros(len(x), 2)
    loss = hue_cross_entropy(input, zeros, torch.zeros(len(x), dtype=torch.int64), zeros[:2], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, input)
    exact = x.double().exp()
    ulp = 2.0 ** (torch.floor(torch.log2(exact)) - 23)
    assert ((gradient[:, 1].double() - exact).abs() / ulp).max() <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
def test_bit_identical_for_any_number_of_threads(dtype, probabilities, per_class):
    arguments = example(67, 1500, dtype, probabilities, per_class=per_class)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(loss_and_gradients(hue_cross_entropy, arguments))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(0, 5, 2, 3), (2, 5, 0, 3)])
def test_no_pixels(shape, reduction):
    rest = (shape[0], *shape[2:])
    input = torch.randn(shape, requires_grad=True)
    hue = torch.randn((shape[0], 2, *shape[2:]), requires_grad=True)
    arguments = (input, hue, torch.empty(rest, dtype=torch.int64), hue_labels(5))
    assert_agrees(arguments, reduction=reduction)


def test_all_ignored_and_empty_batches():
    input, hue, _, labels = example(3, 5)
    for target in (torch.full((3,), -100), torch.empty(0, dtype=torch.int64)):
        arguments = (input[: len(target)], hue[: len(target)], target, labels.detach())
        assert_agrees(arguments, reduction="mean")
        assert_agrees(arguments, reduction="sum")
        assert_agrees(arguments, reduction="none")


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_extra_dimensions_and_no_batch(probabilities, reduction):
    generator = torch.Generator().manual_seed(1)
    labels = hue_labels(5, generator=generator)
    for shape, per_class in itertools.product([(5,), (2, 5, 3), (2, 5, 3, 4)], [False, True]):
        batch, extra = ((), ()) if len(shape) == 1 else (shape[:1], shape[2:])
        rest, hue_shape = (*batch, *extra), (*batch, *([5] if per_class else []), 2, *extra)
        input = torch.randn(shape, generator=generator, requires_grad=True)
        hue = torch.randn(hue_shape, generator=generator, requires_grad=True)
        target = torch.rand(shape) if probabilities else torch.randint(5, rest)
        assert_agrees((input, hue, target, labels), reduction=reduction)


def test_strided_arguments():
    input, hue, target, labels = example(12, 40)
    hue = hue.detach().T.contiguous().T[::2].requires_grad_()
    assert_agrees((input[::2, ::3], hue, target[::2] % 14, labels[:14]))


def test_no_grad_gives_the_same_loss():
    arguments = example(5, 17)
    with torch.no_grad():
        loss = hue_cross_entropy(*arguments, label_smoothing=0.1)
    assert not loss.requires_grad
    assert torch.equal(loss, hue_cross_entropy(*arguments, label_smoothing=0.1).detach())


def test_backward_twice_and_shared_inputs():
    input, hue, target, labels = example(6, 11)
    loss = hue_cross_entropy(input, hue, target, labels)
    loss.backward(retain_graph=True)
    once = input.grad.clone()
    loss.backward()
    assert torch.equal(input.grad, 2 * once)
    (tripled,) = torch.autograd.grad(3 * hue_cross_entropy(input, hue, target, labels), input)
    torch.testing.assert_close(tripled, 3 * once)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": torch.tensor([0, 1, 5])}, IndexError, "Target 5 is out of bounds"),
        ({"target": torch.tensor([0, -1, 1])}, IndexError, "Target -1 is out of bounds"),
        ({"target": torch.tensor([0, 1])}, ValueError, r"batch_size \(3\) to match target batch_size \(2\)"),
        ({"target": torch.tensor(1)}, ValueError, r"target: expected shape \(3,\), got \(\)"),
        ({"target": torch.zeros(3, dtype=torch.int32)}, TypeError, "target: expected int64"),
        ({"target": torch.zeros(3, 4)}, ValueError, r"target .*expected shape \(3, 5\), got \(3, 4\)"),
        ({"target": torch.zeros(3, 5, dtype=torch.int64)}, TypeError, "target .*expected float32"),
        ({"input": torch.zeros(3, 5, dtype=torch.int64)}, TypeError, "input: expected float32"),
        ({"input": torch.zeros(())}, ValueError, "input: expected shape"),
        ({"input": torch.zeros(3, 0)}, ValueError, "input: expected at least 1 class"),
        ({"hue": torch.zeros(3, 2, device="meta")}, ValueError, "hue: expected cpu as input is on, got meta"),
        ({"hue": torch.zeros(3, 3)}, ValueError, r"hue: expected shape \(3, 2\), got \(3, 3\)"),
        ({"hue": torch.zeros(3, 4, 2)}, ValueError, r"hue .*expected shape \(3, 5, 2\), got \(3, 4, 2\)"),
        ({"labels": torch.zeros(4, 2)}, ValueError, r"labels: expected shape \(5, 2\), got \(4, 2\)"),
        ({"weight": torch.ones(4)}, ValueError, r"weight tensor .*all 5 classes .*of shape: \[4\]"),
        ({"weight": torch.ones(5, dtype=torch.int64)}, TypeError, "weight: expected float32"),
        ({"reduction": "max"}, ValueError, "max is not a valid value for reduction: expected 'none'"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be between 0.0 and 1.0. Got: 1.5"),
        ({"hue_scale": -1.0}, ValueError, "hue_scale: expected a finite number"),
        (
            {"target": torch.rand(3, 5), "return_accuracy": True},
            ValueError,
            "return_accuracy: expected classes",
        ),
    ],
)
def test_errors(changes, error, message):
    arguments = {
        "input": torch.zeros(3, 5),
        "hue": torch.zeros(3, 2),
        "target": torch.tensor([0, 1, 2]),
        "labels": torch.zeros(5, 2),
    }
    with pytest.raises(error, match=message):
        hue_cross_entropy(**(arguments | changes))


def test_ignore_index_of_probabilities_as_torch():
    input, hue, target, labels = example(3, 5, probabilities=True)
    with pytest.raises(ValueError, match="ignore_index is not supported for floating point target"):
        hue_cross_entropy(input, hue, target, labels, ignore_index=1)
