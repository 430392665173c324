"""The CUDA kernels of the hue loss, emulated and on a GPU, against plain torch in float64."""

import itertools
import math

import pytest
import torch
from cuda_kernels import REDUCTIONS, kernels
from hue_reference import UGLY_LOGITS, reference_hue_cross_entropy
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhue.nn.functional import hue_labels

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}
TYPES = tuple(TOLERANCE)
DEFAULTS = {
    "hue_weight": 1.0,
    "ignore_index": -100,
    "reduction": "mean",
    "label_smoothing": 0.0,
    "lse_square_scale": 0.0,
    "softcap": None,
    "of_rows": False,  # log-sum-exp and correctness
}


@pytest.fixture(params=["emulated", "gpu"], autouse=True)
def where(request):
    """Where `computed` runs."""
    global _kernels
    _kernels = kernels(request.param)
    return request.param


def real_type(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def computed(
    input, hue, target, labels, weight=None, row_weight=None, gradients=True, hue_scale=None, **options
):
    """Loss and gradients of input, hue, labels, and a target of probabilities; then what is asked of rows."""
    real = real_type(input.dtype)
    weights = (tensor if tensor is None else tensor.to(real) for tensor in (weight, row_weight))
    options = DEFAULTS | {"hue_scale": 1 / (2 * input.shape[1]) if hue_scale is None else hue_scale} | options
    return _kernels.hue_cross_entropy(input, hue, target, labels, *weights, options, gradients)


def example(rows, classes, dtype=torch.float32, probabilities=False, per_class=False, offset=0):
    """`offset`: elements by which the logits are shifted in memory."""
    generator = torch.Generator().manual_seed(rows * classes)
    real = real_type(dtype)
    memory = (3 * torch.randn(rows * classes + offset, generator=generator)).to(dtype)
    input = memory[offset:].view(rows, classes)
    hue = torch.randn((rows, classes, 2) if per_class else (rows, 2), generator=generator, dtype=real)
    labels = hue_labels(classes, generator=generator).to(real)
    if probabilities:
        return input, hue, torch.rand(rows, classes, generator=generator, dtype=real).softmax(1), labels
    return input, hue, torch.randint(classes, (rows,), generator=generator), labels


def assert_agrees(arguments, row_weight=None, **options):
    input, hue, target, labels = arguments
    exact = [t.double().clone().requires_grad_() for t in (input, hue, labels)]
    if target.is_floating_point():
        exact.append(target.double().clone().requires_grad_())
        target = exact[3]
    expected = reference_hue_cross_entropy(exact[0], exact[1], target, exact[2], **options)
    upstream = torch.ones_like(expected) if row_weight is None else row_weight.double()
    expected = (expected.detach(), *torch.autograd.grad(expected, exact, upstream))
    actual = computed(*arguments, row_weight=row_weight, **options)
    tolerance = TOLERANCE[input.dtype]
    # Hue's loss and gradient are differences of terms of about this size.
    hue_scale = options.get("hue_scale")
    hue_scale = 1 / (2 * input.shape[1]) if hue_scale is None else hue_scale
    terms = 0.1 * abs(options.get("hue_weight", 1.0)) * hue_scale
    for ours, theirs in zip(actual, expected, strict=True):
        largest = theirs.abs().nan_to_num(0, 0, 0).max().item() if theirs.numel() else 0
        atol = tolerance * max(largest, terms, 1e-2)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 33, 101, 512, 513, 1000])
def test_agrees_with_reference(dtype, classes):
    kinds = itertools.product([False, True], [False, True], [0.0, 0.1])
    for number, (probabilities, per_class, label_smoothing) in enumerate(kinds):
        rows = 9 if classes < 50 else 2
        arguments = example(rows, classes, dtype, probabilities, per_class, offset=number % 5)
        if not probabilities:
            arguments[2][-1] = 0
        assert_agrees(
            arguments,
            label_smoothing=label_smoothing,
            reduction=REDUCTIONS[number % 3],
            weight=torch.linspace(0.2, 2, classes) if number % 2 else None,
            hue_scale=[None, 1.0, 50.0][number % 3],
            hue_weight=[1.0, 30.0][number % 2],
            ignore_index=-100 if probabilities else 0,
        )


@pytest.mark.parametrize(
    ("classes", "dtype"), [(9001, torch.float32), (5000, torch.float64), (20001, torch.bfloat16)]
)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_rows_that_shared_memory_does_not_hold(classes, dtype, label_smoothing):
    arguments = example(2, classes, dtype, offset=3)
    assert_agrees(arguments, label_smoothing=label_smoothing, hue_weight=float(classes))


# Rows for a warp, 256 and 512 threads; held in shared memory whole or in part, and of about the 48 KiB that a
# launch has without asking.
@pytest.mark.parametrize("classes", [2000, 3000, 6000, 9001, 12_000, 24_000, 30_000, 100_001])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_length_of_a_row(classes, dtype):
    for offset, (per_class, smoothing) in enumerate(itertools.product([False, True], [0.0, 0.1])):
        arguments = example(7, classes, dtype, per_class=per_class, offset=offset)
        assert_agrees(arguments, label_smoothing=smoothing, hue_weight=float(classes), ignore_index=3)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("classes", [1, 7, 33, 512, 2500])
def test_z_loss_and_softcap(dtype, classes):
    kinds = itertools.product([False, True], [False, True], [0.0, 0.1], [None, 2.0, 30.0])
    for number, (probabilities, per_class, label_smoothing, softcap) in enumerate(kinds):
        arguments = example(9 if classes < 50 else 2, classes, dtype, probabilities, per_class, number % 5)
        assert_agrees(
            arguments,
            label_smoothing=label_smoothing,
            softcap=softcap,
            lse_square_scale=[0.0, 1e-3, 2.0][number % 5 % 3],
            reduction=REDUCTIONS[number % 3],
            weight=torch.linspace(0.2, 2, classes) if number % 2 else None,
            ignore_index=-100 if probabilities or classes < 3 else int(arguments[2][-1]),
        )


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("classes", [5, 700, 9001])
@pytest.mark.parametrize("softcap", [None, 20.0])
def test_lse_and_correctness_of_rows(dtype, classes, softcap):
    for offset, (per_class, smoothing) in enumerate(itertools.product([False, True], [0.0, 0.1])):
        input, hue, target, labels = example(12, classes, dtype, per_class=per_class, offset=offset)
        input.round_()  # ties
        target[:8] = input[:8].argmax(1)
        target[1], target[2] = input[1].flip(0).argmax(), 0  # the last of the largest, perhaps
        target[1] = classes - 1 - target[1]
        options = {"softcap": softcap, "label_smoothing": smoothing, "ignore_index": int(target[3])}
        for gradients in (True, False):
            arguments = (input, hue, target, labels)
            *_, lse, correct = computed(*arguments, gradients=gradients, of_rows=True, **options)
            counted = target != target[3]
            logits = input.double() if softcap is None else softcap * torch.tanh(input.double() / softcap)
            expected = torch.where(counted, logits.logsumexp(1), 0)
            torch.testing.assert_close(lse.double(), expected, rtol=1e-6, atol=1e-6)
            assert torch.equal(correct, (input.argmax(1) == target) & counted)


def test_nan_and_infinity_are_not_correct():
    input = torch.tensor([[math.inf, 0, 1], [math.nan, 0, 1], [0, math.nan, 1], [-math.inf] * 3])
    for smoothing in (0.0, 0.1):
        for target in range(3):
            arguments = (input, torch.zeros(4, 2), torch.full((4,), target), hue_labels(3))
            *_, lse, correct = computed(*arguments, label_smoothing=smoothing, of_rows=True)
            assert lse[:3].isnan().all()
            assert lse[3] == -math.inf
            assert correct.tolist() == [False, False, False, target == 0]


def test_weights_of_rows():
    for per_class, dtype in itertools.product([False, True], TYPES):
        arguments = example(5, 19, dtype, per_class=per_class)
        assert_agrees(arguments, row_weight=torch.linspace(-1, 2, 5), reduction="none", label_smoothing=0.2)


def test_many_rows():
    assert_agrees(example(20_000, 2, torch.float64), reduction="mean", label_smoothing=0.1)


def test_gradient_in_place_of_the_logits():
    for classes in (30, 700, 9001):
        arguments = example(3, classes)
        apart, in_place = (
            computed(*arguments, reduction="sum", gradients=kind) for kind in ("apart", "in place")
        )
        for ours, theirs in zip(in_place[:3], apart[:3], strict=True):
            assert torch.equal(ours, theirs)


def test_the_loss_alone():
    for smoothing, reduction in itertools.product([0.0, 0.1], REDUCTIONS):
        options = {"label_smoothing": smoothing, "reduction": reduction}
        arguments = example(7, 33, torch.bfloat16)
        alone = computed(*arguments, gradients=False, **options)[0]
        assert torch.equal(alone, computed(*arguments, **options)[0])


def test_runs_are_bit_identical():
    arguments = example(300, 40)
    first, second = (computed(*arguments, label_smoothing=0.1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("row", UGLY_LOGITS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_infinite_nan_and_huge_logits_as_torch(row, label_smoothing):
    labels = torch.zeros(3, 2)
    hue = torch.tensor([[0.3, 0.4], [0.0, 1.0]])
    for dtype in TYPES:
        input = torch.tensor([row, [0.0, 1.0, 2.0]], dtype=dtype)
        real = real_type(dtype)
        arguments = (input, hue.to(real), torch.tensor([0, 2]), labels.to(real))
        options = {"label_smoothing": label_smoothing, "reduction": "none"}
        loss, gradient, *_ = computed(*arguments, **options)
        exact = input.double().requires_grad_()
        theirs = torch.nn.functional.cross_entropy(exact, arguments[2], **options)
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(
            loss.double() - math.log(3), theirs.detach(), rtol=tolerance, atol=10 * tolerance, equal_nan=True
        )
        theirs = torch.autograd.grad(theirs.sum(), exact)[0]
        torch.testing.assert_close(gradient.double(), theirs, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("hue", [[math.nan, 0.0], [1.0, 0.0], [0.0, 0.0], [1e-15, 0.0], [1e3, -1e3]])
def test_ugly_hue(hue):
    labels = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    arguments = (torch.zeros(1, 3), torch.tensor([hue]), torch.tensor([0]), labels)
    assert_agrees(arguments, hue_scale=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_logits_near_the_largest_number(dtype):
    """Their products with log2(e) overflow; those of a row that only some threads see, too."""
    huge = 0.9 * torch.finfo(dtype).max
    rows = torch.zeros(5, 300, dtype=dtype)
    rows[0, 7] = huge
    rows[1, :] = -huge
    rows[2, 100:] = -huge
    rows[3, :150], rows[3, 150:] = huge, -huge
    rows[4, 3], rows[4, 4:] = -huge, math.inf
    target = torch.tensor([7, 5, 50, 0, 1])
    real = real_type(dtype)
    labels = torch.zeros(300, 2, dtype=real)
    loss, gradient, *_ = computed(rows, torch.ones(5, 2, dtype=real), target, labels, reduction="none")
    exact = rows.double().requires_grad_()
    theirs = torch.nn.functional.cross_entropy(exact, target, reduction="none")
    expected = torch.autograd.grad(theirs.sum(), exact)[0]
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=TOLERANCE[dtype], equal_nan=True)
    theirs = theirs.detach() + math.log(300)
    torch.testing.assert_close(loss.double(), theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("label_radius", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("point_radius", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("hue_scale", [0.0, 1e-5, 1e-3, 0.1, 1.0, 40.0])
def test_every_form_of_the_hue_term(label_radius, point_radius, hue_scale):
    """Series, exponentials, and those below the nearest label; a guess at the radius that was wrong."""
    for classes, dtype in [(21, torch.float32), (700, torch.float32), (21, torch.float64)]:
        input, hue, target, labels = example(6, classes, dtype)
        labels[classes // 2 :] *= 0.3  # not all at the same distance
        arguments = (input, point_radius * hue, target, label_radius * labels)
        assert_agrees(arguments, hue_scale=hue_scale, hue_weight=1e3, ignore_index=int(target[2]))


@pytest.mark.parametrize("hue_scale", [1e-7, 5e-5, 1e-4, 1e-3, 2.5e-3, 0.1, 5.0])
def test_the_gradient_of_hue_is_as_exact_as_its_type(hue_scale):
    """Every form to a few units in the last place: a term of the series left out is more."""
    input, hue, target, labels = example(9, 300)
    arguments = (
        input,
        0.3 * hue,
        target,
        labels * torch.linspace(0.2, 1, 300)[:, None] + torch.tensor([0.3, -0.5]),
    )
    exact = [t.double().clone().requires_grad_() for t in (arguments[0], arguments[1], arguments[3])]
    expected = reference_hue_cross_entropy(exact[0], exact[1], target, exact[2], hue_scale=hue_scale)
    theirs = torch.autograd.grad(expected, exact)[1]
    ours = computed(*arguments, hue_scale=hue_scale)[2].double()
    units = 5e-7 if _kernels.exact else 2e-6  # a GPU's special functions are good to 2^-22
    assert (ours - theirs).abs().max() < units * theirs.abs().max()


def test_labels_at_any_address():
    for classes, offset in itertools.product([8, 9], range(1, 5)):
        input, hue, target, labels = example(3, classes)
        memory = torch.zeros(2 * classes + offset)
        memory[offset:] = labels.flatten()
        assert_agrees((input, hue, target, memory[offset:].view(classes, 2)), hue_weight=10.0)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_hard_targets(dtype, data):
    rows = data.draw(st.integers(1, 40))
    classes = data.draw(st.integers(1, 3000 if rows < 4 else 70))
    arguments = example(rows, classes, dtype, offset=data.draw(st.integers(0, 9)))
    arguments[0].mul_(data.draw(st.sampled_from([0.0, 1.0, 10.0])))
    hue_scale, hue_weight = data.draw(
        st.sampled_from([(None, 1.0), (None, -1.0), (1e-4, 10.0), (0.5, 100.0), (31.0, 1.0)])
    )
    assert_agrees(
        arguments,
        weight=torch.linspace(0.2, 2, classes) if data.draw(st.booleans()) else None,
        hue_scale=hue_scale,
        hue_weight=hue_weight,
        reduction=data.draw(st.sampled_from(REDUCTIONS)),
        ignore_index=data.draw(st.integers(0, classes - 1)) if rows > 8 else -100,
    )


def test_empty_and_ignored_batches():
    input, hue, _, labels = example(3, 5)
    for target in (torch.full((3,), -100), torch.empty(0, dtype=torch.int64)):
        for reduction in REDUCTIONS:
            assert_agrees((input[: len(target)], hue[: len(target)], target, labels), reduction=reduction)


@pytest.mark.parametrize("bad", [5, -1])
def test_a_target_out_of_bounds_makes_its_row_nan(bad):
    input, hue, target, labels = example(3, 5)
    target[1] = bad
    loss, grad_input, grad_hue, *_ = computed(input, hue, target, labels, reduction="none")
    assert loss.isnan().tolist() == [False, True, False]
    assert grad_input.isnan().all(1).tolist() == [False, True, False]
    assert grad_hue.isnan().all(1).tolist() == [False, True, False]
    assert computed(input, hue, target, labels)[0].isnan()
