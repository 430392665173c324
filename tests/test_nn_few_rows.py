"""Autograd in C++, which calls like an earlier one with few rows take: as that of Python, bit for bit."""

import pytest
import torch
from torch.autograd import forward_ad

from pyhue.nn import _hue_cross_entropy
from pyhue.nn.functional import hue_cross_entropy, hue_labels


@pytest.fixture(params=["C++", "Python"])
def autograd(request, monkeypatch):
    """Whose autograd function the second call takes."""
    if request.param == "Python":
        monkeypatch.setattr(_hue_cross_entropy, "differentiable", None)
    return request.param


def example(dtype=torch.float32, probabilities=False):
    torch.manual_seed(0)
    input, hue = (torch.randn(6, size, dtype=dtype, requires_grad=True) for size in (11, 2))
    target = torch.rand(6, 11, dtype=dtype) if probabilities else torch.arange(6)
    return input, hue, target, hue_labels(11).to(dtype)


def second(*arguments, **options):
    """The loss of a call whose kind has been seen."""
    hue_cross_entropy(*arguments, **options)
    return hue_cross_entropy(*arguments, **options)


def in_cpp(loss):
    return "HueCrossEntropyFunction" in loss.grad_fn.name()


def test_it_was_built_for_this_torch():
    assert _hue_cross_entropy.differentiable is not None


def test_who_takes_it(autograd, monkeypatch):
    input, hue, target, labels = example()
    few = {"reduction": "sum"}
    assert in_cpp(second(input, hue, target, labels, **few)) == (autograd == "C++")
    assert not in_cpp(second(input, hue, target, labels, return_lse=True).loss)
    assert not in_cpp(second(input, hue, target, labels, reduction="none"))
    assert not in_cpp(second(input, hue, target, labels.requires_grad_()))
    monkeypatch.setattr(_hue_cross_entropy, "FEW", 65)
    assert not in_cpp(second(input, hue, target, labels.detach(), **few))


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_same_bits(monkeypatch, reduction, dtype, probabilities):
    arguments = example(dtype, probabilities)
    options = {
        "reduction": reduction,
        "weight": torch.linspace(0.5, 2, 11, dtype=dtype),
        "label_smoothing": 0.1,
        "hue_scale": 1.0,
        "hue_weight": 0.7,
        "lse_square_scale": 0.1,
        "softcap": 2.0,
    }
    if not probabilities:
        options["ignore_index"] = 3
    found = []
    for function in (_hue_cross_entropy.differentiable, None):
        monkeypatch.setattr(_hue_cross_entropy, "differentiable", function)
        loss = second(*arguments, **options)
        assert in_cpp(loss) == (function is not None)
        found.append((loss, *torch.autograd.grad(3 * loss, arguments[:2])))
    for ours, python in zip(*found, strict=True):
        assert torch.equal(ours, python)


def test_one_of_the_two_gradients(autograd):
    input, hue, *rest = example()
    whole = torch.autograd.grad(second(input, hue, *rest), (input, hue))
    assert torch.equal(torch.autograd.grad(second(input.detach(), hue, *rest), hue)[0], whole[1])
    assert torch.equal(torch.autograd.grad(second(input, hue.detach(), *rest), input)[0], whole[0])


# torch's forward mode uses torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_no_double_backward_and_no_forward_mode(autograd):
    input, *rest = example()
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(second(input, *rest), input, create_graph=True)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(input.detach(), torch.ones_like(input))
        with pytest.raises((RuntimeError, NotImplementedError), match="jvp"):
            second(dual, *rest)


def test_graphs_kept_and_not(autograd):
    input, *rest = example()
    loss = second(input, *rest)
    once = torch.autograd.grad(loss, input, retain_graph=True)[0].clone()
    for factor in (2.0, -0.5):
        found = torch.autograd.grad(loss, input, torch.tensor(factor), retain_graph=True)[0]
        assert torch.equal(found, factor * once)
        found.fill_(7)  # the caller's own; no later backward sees it
    loss.backward()
    assert torch.equal(input.grad, once)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_batched_gradients(autograd):
    input, *rest = example()
    loss = second(input, *rest)
    once = torch.autograd.grad(loss, input, retain_graph=True)[0]
    factors = torch.tensor([1.0, 3.0])
    (found,) = torch.autograd.grad(loss, input, factors, is_grads_batched=True)
    assert torch.equal(found, factors[:, None, None] * once)


def test_hooks_on_saved_tensors(autograd):
    held = []
    input, *rest = example()
    hue_cross_entropy(input, *rest)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.clone()) or t, lambda t: 2 * t):
        loss = hue_cross_entropy(input, *rest)
    assert torch.equal(torch.autograd.grad(loss, input)[0], 2 * held[0])


def test_target_out_of_bounds(autograd):
    input, hue, target, labels = example()
    hue_cross_entropy(input, hue, target, labels)
    with pytest.raises(IndexError, match=r"^Target 11 is out of bounds\.$"):
        hue_cross_entropy(input, hue, target + 6, labels)
