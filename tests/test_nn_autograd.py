"""The hue loss under automatic differentiation: operator checks, gradients, transforms, checkpoints."""

import math

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from hue_reference import reference_hue_cross_entropy, small_example
from torch.utils.checkpoint import checkpoint

import pyhue.nn as hue_nn
from pyhue.nn import _hue_cross_entropy
from pyhue.nn._options import GRADIENTS, LABEL_GRADIENT, LSE, TARGET_GRADIENT
from pyhue.nn.functional import hue_cross_entropy, linear_hue_cross_entropy


@pytest.mark.parametrize(
    "outputs", [0, GRADIENTS, GRADIENTS + LABEL_GRADIENT, GRADIENTS + TARGET_GRADIENT, 7, LSE, LSE + 1]
)
@pytest.mark.parametrize("reduction", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype, reduction, outputs):
    input, hue, target, labels = (t.detach() for t in small_example(dtype=dtype))
    if outputs & TARGET_GRADIENT:
        target = torch.rand(4, 5, dtype=dtype).softmax(1)
    options = (1.0, 0.1, -100, reduction, 0.1, 0.2, 3.0, outputs)
    for weight in (None, torch.rand(5, dtype=dtype)):
        row_weight = None if weight is None else torch.rand(4, dtype=dtype)
        arguments = (input, hue, target, labels, weight, row_weight, *options)
        torch.library.opcheck(torch.ops.pyhue.hue_cross_entropy.default, arguments)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.2},
        {"weight": torch.linspace(0.5, 2, 5)},
        {"hue_weight": 3.0, "ignore_index": 1},
    ],
)
def test_gradcheck(reduction, probabilities, options):
    input, hue, target, labels = small_example()
    if probabilities:
        target, options = torch.rand(4, 5, dtype=torch.float64).softmax(1), options | {"ignore_index": -100}
    else:
        target[0] = 1
    labels.requires_grad_()

    def loss(input, hue, labels):
        return hue_cross_entropy(input, hue, target, labels, hue_scale=2.0, reduction=reduction, **options)

    assert torch.autograd.gradcheck(loss, (input, hue, labels), fast_mode=True)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 5, 3, 2)])
@pytest.mark.parametrize("per_class", [False, True])
def test_gradcheck_of_shapes(shape, per_class):
    torch.manual_seed(0)
    batch, extra = ((), ()) if len(shape) == 1 else (shape[:1], shape[2:])
    hue_shape = (*batch, 5, 2, *extra) if per_class else (*batch, 2, *extra)
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in (shape, hue_shape, (5, 2))]
    target = torch.randint(5, (*batch, *extra))

    def loss(input, hue, labels):
        return hue_cross_entropy(input, hue, target, labels, hue_scale=1.0)

    assert torch.autograd.gradcheck(loss, tensors)


@pytest.mark.filterwarnings("ignore:Input .* is not a double precision:UserWarning")
def test_gradcheck_of_float32():
    input, hue, target, labels = small_example(dtype=torch.float32)

    def loss(input, hue):
        return hue_cross_entropy(input, hue, target, labels, hue_scale=2.0)

    assert torch.autograd.gradcheck(loss, (input, hue), eps=1e-2, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_double_backward_says_no(reduction):
    input, hue, target, labels = small_example()
    loss = hue_cross_entropy(input, hue, target, labels, reduction=reduction).sum()
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(loss, input, create_graph=True)


def test_double_backward_of_transforms_says_no():
    input, hue, target, labels = (t.detach() for t in small_example())

    def gradient_norm(input):
        gradient = torch.func.grad(lambda x: hue_cross_entropy(x, hue, target, labels))(input)
        return gradient.square().sum()

    with pytest.raises(RuntimeError, match="no double backward"):
        torch.func.grad(gradient_norm)(input)


# torch's forward mode uses torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_says_no():
    input, hue, target, labels = (t.detach() for t in small_example())
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(input, torch.ones_like(input))
        with pytest.raises(NotImplementedError, match="jvp"):
            hue_cross_entropy(dual, hue, target, labels)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
        torch.func.jvp(lambda x: hue_cross_entropy(x, hue, target, labels), (input,), (input,))


@pytest.mark.parametrize("function", [hue_cross_entropy, reference_hue_cross_entropy])
def test_functional_transforms(function):
    input, hue, target, labels = (t.detach() for t in small_example())

    def loss(input, hue, target):
        return function(input, hue, target, labels)

    samples = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(input, hue, target)
    together = torch.func.grad(lambda x, h: torch.func.vmap(loss)(x, h, target).sum(), argnums=(0, 1))(
        input, hue
    )
    per_row = torch.func.jacrev(lambda x: function(x, hue, target, labels, reduction="none"))(input)
    leaves = [t.clone().requires_grad_() for t in (input, hue)]
    expected = torch.autograd.grad(
        reference_hue_cross_entropy(*leaves, target, labels, reduction="sum"), leaves
    )
    for ours, theirs in zip(samples, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(together, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(per_row.diagonal(dim1=0, dim2=1).T, expected[0])


def test_vmap_over_labels():
    input, hue, target, labels = (t.detach() for t in small_example())
    members = torch.stack((labels, -labels))
    losses = torch.func.vmap(lambda labels: hue_cross_entropy(input, hue, target, labels))(members)
    expected = [hue_cross_entropy(input, hue, target, labels) for labels in members]
    torch.testing.assert_close(losses, torch.stack(expected))


def test_vmap_over_models_and_samples():
    """Gradients of each sample, for each of an ensemble's models."""
    models = [hue_nn.HueClassifier(torch.nn.Flatten(), 6, 5, learnable=True) for _ in range(2)]
    parameters, _ = torch.func.stack_module_state(models)
    images, target = torch.randn(3, 2, 3), torch.tensor([0, 4, 1])

    def loss(parameters, image, target):
        return torch.func.functional_call(models[0], parameters, (image[None], target[None]))

    of_samples = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    gradients = torch.func.vmap(of_samples, (0, None, None))(parameters, images, target)
    for m, model in enumerate(models):
        for i in range(3):
            expected = torch.autograd.grad(model(images[i : i + 1], target[i : i + 1]), model.parameters())
            for (name, _), gradient in zip(model.named_parameters(), expected, strict=True):
                torch.testing.assert_close(gradients[name][m, i], gradient)


def test_checkpointing():
    head, features, target = hue_nn.HueHead(6, 5), torch.randn(8, 6), torch.randint(5, (8,))
    criterion = hue_nn.HueCrossEntropyLoss(5)
    gradients = []
    for run in (lambda f, *args: f(*args), lambda f, *args: checkpoint(f, *args, use_reentrant=False)):
        loss = run(lambda features: criterion(*head(features), target), features)
        gradients.append(torch.autograd.grad(loss, list(head.parameters())))
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


FACTORS = [1.0, 3.0, 0.0, -0.5, math.inf, math.nan]


@pytest.mark.parametrize("linear", [False, True])
def test_a_kept_graph_gives_every_factor_its_own_gradients(linear):
    loss, leaves, gradients = loss_and_gradients(linear)
    for factor in (*FACTORS, *FACTORS):
        found = torch.autograd.grad(loss, leaves, torch.tensor(factor), retain_graph=True)
        for a, b in zip(found, gradients, strict=True):
            torch.testing.assert_close(a, b * factor, rtol=0, atol=0, equal_nan=True)
            a.fill_(7)  # the caller's own; no later backward sees it


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("linear", [False, True])
def test_the_last_backward_overwrites_what_was_saved(monkeypatch, linear, factor):
    monkeypatch.setattr(_hue_cross_entropy, "FEW", 0)  # of few rows autograd may be C++, which copies
    loss, leaves, gradients = loss_and_gradients(linear)
    saved = [tensor.data_ptr() for tensor in loss.grad_fn.saved_tensors]
    found = torch.autograd.grad(loss, leaves, torch.tensor(factor))
    assert [tensor.data_ptr() for tensor in found] == saved
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b * factor, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_what_hooks_on_saved_tensors_hold_is_not_overwritten():
    held = []

    def pack(tensor):
        held.append((tensor, tensor.clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, leaves, gradients = loss_and_gradients(False)
    found = torch.autograd.grad(3 * loss, leaves)
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b * 3, rtol=0, atol=0)
    assert held
    assert all(torch.equal(tensor, before) for tensor, before in held)


def test_a_backward_outside_of_the_engine_overwrites_nothing(monkeypatch):
    monkeypatch.setattr(_hue_cross_entropy, "FEW", 0)
    loss, _, gradients = loss_and_gradients(False)
    for _ in range(2):
        with torch.no_grad():
            found = loss.grad_fn.apply(torch.tensor(2.0))
        assert torch.equal(found[0], 2 * gradients[0])


def loss_and_gradients(linear):
    """A loss, its leaves, and gradients with the factor 1 that share no memory with it."""
    torch.manual_seed(0)
    if linear:
        shapes = [(6, 4), (11, 4), (11,), (2, 4), (2,)]
        leaves = [torch.randn(shape, requires_grad=True) for shape in shapes]
        function = linear_hue_cross_entropy
    else:
        leaves = [torch.randn(6, 11, requires_grad=True), torch.randn(6, 2, requires_grad=True)]
        function = hue_cross_entropy
    loss = function(*leaves, torch.arange(6), hue_nn.hue_labels(11))
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
    return loss, leaves, [gradient.clone() for gradient in gradients]
