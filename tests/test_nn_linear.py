import pytest
import torch
import torch.nn.functional as F

from pyhue.nn import _linear
from pyhue.nn._options import CORRECT, GRADIENTS, LSE
from pyhue.nn.functional import hue_cross_entropy, hue_labels, linear_hue_cross_entropy


def example(rows, features, classes, dtype=torch.float64, per_class=False):
    torch.manual_seed(0)
    of_hue = 2 * classes if per_class else 2
    shapes = [(rows, features), (classes, features), (classes,), (of_hue, features), (of_hue,)]
    tensors = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return tensors, torch.randint(classes, (rows,)), hue_labels(classes).to(dtype)


def unfused(tensors, target, labels, **options):
    input, weight, bias, hue_weight, hue_bias = tensors
    hue = F.linear(input, hue_weight, hue_bias)
    if len(hue_weight) > 2:
        hue = hue.unflatten(1, (-1, 2))
    return hue_cross_entropy(F.linear(input, weight, bias), hue, target, labels, **options)


@pytest.mark.parametrize("more", [{}, {"softcap": 2.0, "lse_square_scale": 0.2}], ids=str)
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_equals_the_unfused_loss(monkeypatch, dtype, weighted, reduction, per_class, more):
    monkeypatch.setattr(_linear, "CHUNK_BYTES", 200)  # several chunks, the last one not whole
    tensors, target, labels = example(45, 6, 11, dtype, per_class)
    target[3] = -100
    options = more | {
        "reduction": reduction,
        "label_smoothing": 0.1,
        "hue_scale": 1.0,
        "weight": torch.linspace(0.5, 2, 11, dtype=dtype) if weighted else None,
    }
    results = []
    for loss in (
        linear_hue_cross_entropy(*tensors, target, labels, **options),
        unfused(tensors, target, labels, **options),
    ):
        results.append((loss, *torch.autograd.grad(3 * loss, tensors)))
    # Gradients of 16 bits are sums of terms that were rounded before.
    largest = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype)
    for fused, plain in zip(*results, strict=True):
        atol = largest * plain.abs().max().item() if largest else None
        torch.testing.assert_close(fused, plain, rtol=None if atol is None else 0, atol=atol)


def test_16_bits_are_summed_in_float32(monkeypatch):
    monkeypatch.setattr(_linear, "CHUNK_BYTES", 1)  # 188 chunks
    tensors, target, labels = example(3000, 6, 11, torch.bfloat16)
    loss = linear_hue_cross_entropy(*tensors, target, labels)
    found = torch.autograd.grad(loss, tensors)
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = torch.autograd.grad(unfused(wide, target, labels.double()), wide)
    assert (loss.dtype, *(gradient.dtype for gradient in found)) == (torch.bfloat16,) * 6
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        error = (ours.double() - theirs).abs().max() / theirs.abs().max()
        assert error < 6e-3  # 2^-8, and a little for the logits' rounding


def test_gradients_of_the_hue_layer_do_not_underflow():
    tensors, target, labels = example(4096, 6, 1000, torch.float16)
    found = torch.autograd.grad(1024 * linear_hue_cross_entropy(*tensors, target, labels).float(), tensors)
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = torch.autograd.grad(1024 * unfused(wide, target, labels.double()), wide)
    for ours, theirs in zip(found[3:], expected[3:], strict=True):
        assert ours.dtype == torch.float16
        assert (ours.double() - theirs).abs().max() < 2e-3 * theirs.abs().max()


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)], ids=str
)
def test_gradients_are_as_exact_as_their_type(monkeypatch, dtype, bound, chunks):
    rows, classes = 512, 3000
    monkeypatch.setattr(_linear, "CHUNK_BYTES", rows * classes * dtype.itemsize // chunks)
    monkeypatch.setattr(_linear, "BLOCK_ELEMENTS", 1000 * 16)
    tensors, target, labels = example(rows, 16, classes, dtype)
    # So small that rounded logits do not matter.
    tensors = [(t / 16).detach().requires_grad_() for t in tensors]
    loss = linear_hue_cross_entropy(*tensors, target, labels, reduction="sum")
    found = torch.autograd.grad(loss, tensors)
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    exact = torch.autograd.grad(unfused(wide, target, labels.double(), reduction="sum"), wide)
    for ours, theirs in zip(found[:3], exact, strict=False):
        assert (ours.double() - theirs).norm() < bound * theirs.norm()


def test_float16_keeps_the_mean_gradients_of_classes_that_no_row_has():
    tensors, target, labels = example(1024, 6, 20_000, torch.float16)
    tensors, target = [(t / 16).detach().requires_grad_() for t in tensors], target % 100
    found = torch.autograd.grad(linear_hue_cross_entropy(*tensors, target, labels), tensors[2])[0]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    exact = torch.autograd.grad(unfused(wide, target, labels.double()), wide[2])[0]
    assert (found - exact)[100:].norm() < 5e-3 * exact[100:].norm()  # 5e-8 of each row: float16 has 6e-8 or 0


@pytest.mark.parametrize("part", ["features", "weight", "hue", "class weight", "z-loss"])
@pytest.mark.parametrize("rows", [3, 600])
def test_float16_overflows_nowhere(rows, part):
    tensors, target, labels = example(rows, 4, 5, torch.float16, per_class=part == "hue")
    tensors = [(tensor / 8).detach() for tensor in tensors]
    target.fill_(2)  # all sums have one sign
    if part == "features":
        tensors[0].abs_().mul_(3000)
    elif part == "weight":
        tensors[1].abs_().mul_(30000)
        tensors[0] /= 1000  # logits are small nevertheless
    elif part == "hue":
        tensors[3].abs_().mul_(30000)
    weight = torch.full((5,), 3e4) if part == "class weight" else None
    tensors = [tensor.requires_grad_() for tensor in tensors]
    options = {"weight": weight, "hue_scale": 10.0 if part == "hue" else None}
    if part == "z-loss":
        # The gradient of the sum over rows is about 600 x 2 x 100 x 50.
        tensors[0] = 100 * tensors[0].detach()
        options["lse_square_scale"] = 100.0
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    found = torch.autograd.grad(linear_hue_cross_entropy(*tensors, target, labels, **options), tensors)
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    exact = torch.autograd.grad(unfused(wide, target, labels.double(), **options), wide)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.isfinite().all()
        atol = 1e-2 * theirs.abs().max().item() + 1e-7
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol)


def test_gradcheck():
    tensors, target, labels = example(5, 3, 4)
    assert torch.autograd.gradcheck(lambda *t: linear_hue_cross_entropy(*t, target, labels), tensors)


def test_no_grad():
    tensors, target, labels = example(5, 3, 4)
    with torch.no_grad():
        loss = linear_hue_cross_entropy(*tensors, target, labels)
    torch.testing.assert_close(loss, unfused(tensors, target, labels).detach())


def operator_arguments(gradients, dtype):
    tensors, target, labels = example(5, 3, 4, dtype)
    labels = labels.double() if dtype == torch.float64 else labels.float()
    options = (1.0, 0.1, -100, 1, 0.1, 0.2, 3.0, LSE | CORRECT | GRADIENTS * gradients)
    return (*(t.detach() for t in tensors), target, labels, None, *options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gradients", [False, True])
def test_opcheck(gradients, dtype):
    operator = torch.ops.pyhue.linear_hue_cross_entropy.default
    torch.library.opcheck(operator, operator_arguments(gradients, dtype))


def test_opcheck_of_the_kernel_in_place():
    tensors, target, labels = example(5, 2, 4)
    arguments = (torch.randn(5, 4, dtype=torch.float64), tensors[0].detach(), target, labels)
    for outputs in (0, LSE | CORRECT):
        options = (None, None, 1.0, 0.1, -100, 0.1, 0.2, 3.0, outputs)
        torch.library.opcheck(torch.ops.pyhue.hue_cross_entropy_.default, (*arguments, *options))


def test_functional_transforms():
    tensors, target, labels = example(5, 3, 4)
    tensors = tuple(t.detach() for t in tensors)

    def loss(weight, features, target):
        return linear_hue_cross_entropy(features, weight, *tensors[2:], target, labels, reduction="sum")

    samples = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(
        tensors[1], tensors[0][:, None], target[:, None]
    )
    expected = torch.func.grad(loss)(tensors[1], tensors[0], target)
    torch.testing.assert_close(samples.sum(0), expected)


def test_strided_arguments():
    tensors, target, labels = example(6, 3, 4)
    strided = [tensors[0][::2], tensors[1].flip(1), tensors[2], tensors[3].flip(1), tensors[4]]
    arguments = (strided, target[::2], labels.flip(1).T.contiguous().T)
    weight = torch.linspace(0.1, 3, 8)[::2]  # of another type than the features
    fused = linear_hue_cross_entropy(*strided, *arguments[1:], weight=weight)
    torch.testing.assert_close(fused, unfused(*arguments, weight=weight))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("rows", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_empty_and_all_ignored_batches(dtype, rows, reduction):
    tensors, target, labels = example(rows, 3, 4, dtype)
    target.fill_(-100)
    results = []
    for loss in (
        linear_hue_cross_entropy(*tensors, target, labels, reduction=reduction),
        unfused(tensors, target, labels, reduction=reduction),
    ):
        results.append((loss, *torch.autograd.grad(loss, tensors)))
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, equal_nan=True)


def test_autocast_converts_16_bits():
    tensors, target, labels = example(5, 3, 4, torch.bfloat16)
    labels = labels.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_hue_cross_entropy(*tensors, target, labels)
    assert torch.equal(loss, linear_hue_cross_entropy(*(t.float() for t in tensors), target, labels))


def test_autocast_is_not_followed():
    tensors, target, labels = example(5, 3, 4, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_hue_cross_entropy(*tensors, target, labels)
    assert torch.equal(loss, linear_hue_cross_entropy(*tensors, target, labels))


def test_double_backward_says_no():
    tensors, target, labels = example(5, 3, 4)
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(linear_hue_cross_entropy(*tensors, target, labels), tensors, create_graph=True)


# torch's forward mode uses torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_says_no():
    tensors, target, labels = example(5, 3, 4)
    features, *layers = (tensor.detach() for tensor in tensors)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(
            lambda x: linear_hue_cross_entropy(x, *layers, target, labels), (features,), (features,)
        )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": torch.zeros(4, dtype=torch.int64)}, ValueError, r"batch_size \(5\) to match .* \(4\)"),
        ({"target": torch.full((5,), 9)}, IndexError, "Target 9 is out of bounds"),
        ({"linear_bias": torch.zeros(3)}, ValueError, r"linear_bias: expected shape \(4,\), got \(3,\)"),
        ({"linear_bias": torch.zeros(4).double()}, TypeError, "linear_bias: expected torch.float32 as input"),
        ({"input": torch.zeros(5, 3, dtype=torch.int64)}, TypeError, "input: expected float32, float64, bfl"),
        ({"labels": torch.zeros(4, 2, dtype=torch.int64)}, TypeError, "labels: expected float32, float64"),
        ({"labels": torch.zeros(4, 2, requires_grad=True)}, ValueError, "labels: expected labels without"),
        ({"reduction": "none"}, ValueError, "reduction: expected 'mean' or 'sum', got 'none'"),
        ({"reduction": "max"}, ValueError, "max is not a valid value for reduction"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be between 0.0 and 1.0"),
        ({"hue_scale": float("nan")}, ValueError, "hue_scale: expected a finite number"),
        ({"hue_linear_weight": torch.zeros(7, 3)}, ValueError, r"hue_linear_weight: expected shape \(2, 3\)"),
        ({"hue_linear_weight": torch.zeros(8, 3)}, ValueError, r"hue_linear_bias: expected shape \(8,\)"),
        ({"softcap": -1.0}, ValueError, "softcap: expected a finite number"),
        ({"linear_weight": torch.zeros(0, 3)}, ValueError, "linear_weight: expected at least 1 class"),
    ],
)
def test_errors(change, error, message):
    names = ["input", "linear_weight", "linear_bias", "hue_linear_weight", "hue_linear_bias"]
    tensors, target, labels = example(5, 3, 4, torch.float32)
    arguments = dict(zip(names, tensors, strict=True)) | {"target": target, "labels": labels}
    with pytest.raises(error, match=message):
        linear_hue_cross_entropy(**(arguments | change))
