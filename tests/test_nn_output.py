"""Log-sum-exp and accuracy that the losses return on request, against plain torch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhue import _core
from pyhue.nn import HueClassifier, _linear
from pyhue.nn.functional import hue_cross_entropy, hue_labels, linear_hue_cross_entropy

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
BOTH = {"return_lse": True, "return_accuracy": True}


@pytest.fixture(params=_core.available_isas())
def isa(request):
    before = torch.ops.pyhue.isa("")
    yield torch.ops.pyhue.isa(request.param)
    torch.ops.pyhue.isa(before)


def expected(input, target, ignore_index=-100, softcap=None):
    """Log-sum-exps, 0 where the target is ignored, and accuracy."""
    dim = min(input.dim() - 1, 1)
    logits = input.detach().double()
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    counted = target != ignore_index
    correct = (input.detach().argmax(dim) == target) & counted
    return torch.where(counted, logits.logsumexp(dim), 0), correct.sum() / counted.sum()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_lse_and_accuracy(dtype, data):
    classes = data.draw(st.sampled_from([1, 2, 7, 16, 33, 2100]), "classes")
    shape = data.draw(st.sampled_from([(classes,), (9, classes), (0, classes), (3, classes, 2, 2)]), "shape")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), "seed"))
    ties = data.draw(st.booleans(), "ties")
    input = (3 * torch.randn(shape, generator=generator)).to(dtype)
    input = input.round() if ties else input
    rest, dim = shape[:1] * (len(shape) > 1) + shape[2:], min(len(shape) - 1, 1)
    target = torch.randint(classes, rest, generator=generator)
    if data.draw(st.booleans(), "good"):
        target = torch.where(torch.rand(rest, generator=generator) < 0.7, input.argmax(dim), target)
    ignored = data.draw(st.sampled_from([-100, 0]), "ignore_index")
    hue, labels = torch.zeros(*shape[:dim], 2, *shape[2:]), hue_labels(classes)
    options = {
        "softcap": data.draw(st.sampled_from([None, 20.0]), "softcap"),
        "reduction": data.draw(st.sampled_from(["none", "mean", "sum"]), "reduction"),
        "ignore_index": ignored,
    }
    if data.draw(st.booleans(), "gradients"):
        input.requires_grad_()
    found = hue_cross_entropy(input, hue, target, labels, **BOTH, **options)
    lse, accuracy = expected(input, target, ignored, options["softcap"])
    real = torch.float64 if dtype == torch.float64 else torch.float32
    assert (found.lse.dtype, found.lse.shape) == (real, target.shape)
    torch.testing.assert_close(found.lse, lse.to(real))
    torch.testing.assert_close(found.accuracy, accuracy, rtol=0, atol=0, equal_nan=True)
    alone = hue_cross_entropy(input, hue, target, labels, **options)
    assert torch.equal(found.loss, alone) or alone.isnan().any()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("row", [[math.inf, 0, 1], [math.nan, 0, 1], [-math.inf] * 3, [0, -math.inf, 1]])
def test_lse_and_accuracy_of_ugly_rows(row):
    input = torch.tensor([row]).expand(3, 3)
    found = hue_cross_entropy(input, torch.zeros(3, 2), torch.arange(3), hue_labels(3), **BOTH)
    no_number = math.nan in row or math.inf in row  # as the loss then is
    lse, accuracy = expected(input, torch.arange(3))
    torch.testing.assert_close(found.lse.double(), lse * math.nan if no_number else lse, equal_nan=True)
    assert found.accuracy == (0 if no_number else accuracy)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("dtype", "units"), [(torch.float32, 4), (torch.float64, 4)], ids=str)
def test_tanh_is_within_four_ulp(dtype, units):
    """The log-sum-exp of one class is its capped logit, and its logit a cap of 1 is tanh."""
    sizes = torch.logspace(-30, 5, 20_001, base=2, dtype=torch.float64).to(dtype)
    x = torch.cat((sizes, -sizes, torch.tensor([0.0, 0.5, math.inf, -math.inf], dtype=dtype)))
    zeros = torch.zeros(len(x), 2, dtype=dtype)
    target = torch.zeros(len(x), dtype=torch.int64)
    found = hue_cross_entropy(x[:, None], zeros, target, zeros[:1], softcap=1.0, return_lse=True).lse
    exact = torch.tanh(x.double())
    ulp = 2.0 ** (torch.floor(torch.log2(exact.abs().clamp(min=1e-300))) + 1) * torch.finfo(dtype).eps / 2
    assert ((found.double() - exact).abs() <= units * ulp).all()


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_of_the_linear_form(monkeypatch, dtype, grad, softcap):
    monkeypatch.setattr(_linear, "CHUNK_BYTES", 200)  # several chunks, the last one not whole
    torch.manual_seed(0)
    input = torch.randn(45, 6).to(dtype).requires_grad_(grad)
    layers = [torch.randn(shape).to(dtype) for shape in ((11, 6), (11,), (2, 6), (2,))]
    logits = torch.nn.functional.linear(input, *layers[:2])
    target = torch.where(torch.arange(45) % 3 == 0, logits.argmax(1), torch.randint(11, (45,)))
    target[3] = -100
    found = linear_hue_cross_entropy(input, *layers, target, hue_labels(11), softcap=softcap, **BOTH)
    lse, accuracy = expected(logits, target, softcap=softcap)
    torch.testing.assert_close(found.lse, lse.to(found.lse.dtype))
    torch.testing.assert_close(found.accuracy, accuracy)
    one = linear_hue_cross_entropy(input, *layers, target, hue_labels(11), return_lse=True)
    assert one.accuracy is None
    assert found.loss.requires_grad == grad


def calls():
    torch.manual_seed(0)
    x, hue, target, labels = torch.randn(4, 5), torch.randn(4, 2), torch.arange(4), hue_labels(5)
    layers = [torch.randn(shape) for shape in ((5, 5), (5,), (2, 5), (2,))]
    yield x, lambda x: hue_cross_entropy(x, hue, target, labels, **BOTH)
    yield x, lambda x: hue_cross_entropy(x, hue, target, labels, **BOTH, reduction="none")
    yield x, lambda x: linear_hue_cross_entropy(x, *layers, target, labels, **BOTH)


@pytest.mark.parametrize(("x", "loss"), list(calls()))
def test_only_the_loss_is_differentiable(x, loss):
    leaf = x.clone().requires_grad_()
    found = loss(leaf)
    assert [tensor.requires_grad for tensor in found] == [True, False, False]
    gradient, (once_more, auxiliary) = torch.func.grad_and_value(
        lambda x: (loss(x).loss.sum(), loss(x)), has_aux=True
    )(x)
    torch.testing.assert_close(gradient, torch.autograd.grad(found.loss.sum(), leaf)[0])
    torch.testing.assert_close(once_more, found.loss.sum())
    torch.testing.assert_close(tuple(auxiliary), tuple(tensor.detach() for tensor in found))
    with pytest.raises(RuntimeError, match="lse has no gradient"):
        torch.func.grad(lambda x: loss(x).lse.sum())(x)
    members = torch.func.vmap(loss)(torch.stack((x, x + 1)))
    assert [tensor.shape[0] for tensor in members] == [2, 2, 2]
    torch.testing.assert_close(members.lse[1], loss(x + 1).lse)


def test_of_a_module():
    model = HueClassifier(torch.nn.Flatten(), 6, 5, return_accuracy=True, softcap=30.0, lse_square_scale=1e-4)
    found = model(torch.randn(3, 6), torch.arange(3))
    assert found.lse is None
    assert found.accuracy == (model(torch.zeros(3, 6)).shape == (3, 5)) * found.accuracy
    found.loss.backward()
    assert "lse_square_scale=0.0001, softcap=30.0" in repr(model)
