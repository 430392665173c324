"""Every tensor that the loss takes has a gradient or is refused one by name; modules round none of theirs."""

import inspect
import itertools
from typing import Any, NamedTuple

import pytest
import torch
from hue_reference import reference_hue_cross_entropy
from torch import Tensor, nn

import pyhue.nn as hue_nn
from pyhue.nn import _kinds, functional
from pyhue.nn.functional import hue_cross_entropy, hue_labels, linear_hue_cross_entropy


class Case(NamedTuple):
    """A public function, its float64 arguments, and what becomes of those that require a gradient."""

    function: Any
    reference: Any
    arguments: dict[str, Tensor]
    differentiable: tuple[str, ...]
    refused: tuple[str, ...]
    reductions: tuple[str, ...] = ("none", "mean", "sum")


def reference_linear(
    input, linear_weight, linear_bias, hue_linear_weight, hue_linear_bias, *others, **options
):
    logits = nn.functional.linear(input, linear_weight, linear_bias)
    hue = nn.functional.linear(input, hue_linear_weight, hue_linear_bias)
    if len(hue_linear_weight) > 2:
        hue = hue.unflatten(1, (-1, 2))
    return reference_hue_cross_entropy(logits, hue, *others, **options)


def drawn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=drawn.generator)


drawn.generator = torch.Generator().manual_seed(0)
COMMON = {
    "target": torch.tensor([1, 0, 4, 2]),
    "labels": hue_labels(5, generator=drawn.generator).double(),
    "weight": torch.linspace(0.5, 2, 5, dtype=torch.float64),
}
LOGITS = {"input": drawn(4, 5), "hue": drawn(4, 2)} | COMMON
CASES = {
    "classes": Case(
        hue_cross_entropy, reference_hue_cross_entropy, LOGITS, ("input", "hue", "labels"), ("weight",)
    ),
    "probabilities": Case(
        hue_cross_entropy,
        reference_hue_cross_entropy,
        LOGITS | {"target": drawn(4, 5).softmax(1)},
        ("input", "hue", "target", "labels"),
        ("weight",),
    ),
    "a hue of every class": Case(
        hue_cross_entropy,
        reference_hue_cross_entropy,
        LOGITS | {"target": drawn(4, 5).softmax(1), "hue": drawn(4, 5, 2)},
        ("input", "hue", "target", "labels"),
        ("weight",),
    ),
    "linear": Case(
        linear_hue_cross_entropy,
        reference_linear,
        {
            "input": drawn(4, 3),
            "linear_weight": drawn(5, 3),
            "linear_bias": drawn(5),
            "hue_linear_weight": drawn(2, 3),
            "hue_linear_bias": drawn(2),
        }
        | COMMON,
        ("input", "linear_weight", "linear_bias", "hue_linear_weight", "hue_linear_bias"),
        ("labels", "weight"),
        ("mean", "sum"),
    ),
    "linear, a hue of every class": Case(
        linear_hue_cross_entropy,
        reference_linear,
        {
            "input": drawn(4, 3),
            "linear_weight": drawn(5, 3),
            "linear_bias": drawn(5),
            "hue_linear_weight": drawn(10, 3),
            "hue_linear_bias": drawn(10),
        }
        | COMMON,
        ("input", "linear_weight", "linear_bias", "hue_linear_weight", "hue_linear_bias"),
        ("labels", "weight"),
        ("mean", "sum"),
    ),
}
OPTIONS = {
    "hue_scale": 2.0,
    "hue_weight": 3.0,
    "label_smoothing": 0.2,
    "lse_square_scale": 0.3,
    "softcap": 2.0,
}
DIFFERENTIABLE = [(case, name) for case, made in CASES.items() for name in made.differentiable]
REFUSED = [(case, name) for case, made in CASES.items() for name in made.refused]
every_differentiable = pytest.mark.parametrize(("case", "name"), DIFFERENTIABLE)


def calls(case, name, reduction="mean"):
    """The function and its reference, of the argument `name` alone; and that argument."""
    made, others = CASES[case], dict(CASES[case].arguments)
    value = others.pop(name).clone()

    def call(function):
        return lambda tensor: function(**others | {name: tensor}, **OPTIONS, reduction=reduction)

    # The reference takes what comes first by position.
    def reference(tensor):
        arguments = {key: tensor if key == name else others.get(key) for key in made.arguments}
        weight = arguments.pop("weight")
        return made.reference(*arguments.values(), weight=weight, **OPTIONS, reduction=reduction)

    return call(made.function), reference, value


def test_every_tensor_of_every_function_is_here():
    """A new function, or a new tensor of an old one, has to say what becomes of its gradient."""
    for name in functional.__all__:
        function = getattr(functional, name)
        if inspect.isclass(function):
            continue
        parameters = inspect.signature(function).parameters.values()
        tensors = {p.name for p in parameters if p.annotation in (Tensor, Tensor | None)}
        mine = [case for case in CASES.values() if case.function is function]
        if function is functional.pixel_density:  # its only tensor has a file of its own: test_nn_density.py
            assert tensors == {"activations"}
            continue
        assert not tensors or mine, f"{name} takes tensors and has no case"
        for case in mine:
            said = {*case.differentiable, *case.refused} | {"target"}  # classes are integers
            assert tensors == said == set(case.arguments)


@every_differentiable
def test_gradcheck(case, name):
    for reduction in CASES[case].reductions:
        ours, _, value = calls(case, name, reduction)
        assert torch.autograd.gradcheck(ours, value.requires_grad_())


@every_differentiable
def test_gradients_of_transforms(case, name):
    ours, theirs, value = calls(case, name)
    expected = torch.func.grad(theirs)(value)
    torch.testing.assert_close(torch.func.grad(ours)(value), expected)
    torch.testing.assert_close(torch.func.jacrev(ours)(value), expected)
    members = torch.stack((value, value + 0.1))
    over_members = torch.func.vmap(torch.func.grad(ours))(members)
    torch.testing.assert_close(over_members, torch.func.vmap(torch.func.grad(theirs))(members))
    of_vmap = torch.func.grad(lambda tensors: torch.func.vmap(ours)(tensors).sum())(members)
    torch.testing.assert_close(of_vmap, over_members)
    torch.testing.assert_close(torch.func.vmap(ours)(members), torch.func.vmap(theirs)(members))


@every_differentiable
def test_batched_gradients(case, name):
    """torch.autograd.grad(is_grads_batched=True), of which functional.jacobian(vectorize=True) is made."""
    for reduction, retain_graph in itertools.product(CASES[case].reductions, (False, True)):
        ours, theirs, value = calls(case, name, reduction)
        found = []
        for function in (ours, theirs):
            leaf = value.clone().requires_grad_()
            loss = function(leaf)
            upstream = torch.arange(1.0, 1 + 3 * loss.numel(), dtype=torch.float64).reshape(3, *loss.shape)
            found += torch.autograd.grad(loss, leaf, upstream, retain_graph, is_grads_batched=True)
        torch.testing.assert_close(*found)


@every_differentiable
def test_a_sum_of_two_losses(case, name):
    ours, theirs, value = calls(case, name)
    gradients = []
    for function in (ours, theirs):
        leaf = value.clone().requires_grad_()
        loss = function(leaf) + 2 * function(leaf.flip(0))
        gradients += torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(*gradients)


def test_one_tensor_as_two_arguments():
    labels = LOGITS["labels"].clone()
    for function in (hue_cross_entropy, reference_hue_cross_entropy):
        both = LOGITS["input"].softmax(1).requires_grad_()
        points = labels[:4].clone().requires_grad_()
        four = both[:, :4]
        loss = function(four, points, four, points, hue_scale=1.0)
        found = torch.autograd.grad(loss, (both, points))
        if function is hue_cross_entropy:
            gradients = found
    for ours, theirs in zip(gradients, found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("case", "name"), REFUSED)
def test_gradients_that_there_are_not_are_refused(case, name):
    ours, _, value = calls(case, name)
    for reduction in CASES[case].reductions:
        ours, _, value = calls(case, name, reduction)
        with pytest.raises(ValueError, match=f"{name}: expected .*without gradient"):
            ours(value.clone().requires_grad_())
        with torch.no_grad():
            ours(value.clone().requires_grad_())
        with pytest.raises(ValueError, match=f"{name}: expected .*without gradient"):
            torch.func.grad(lambda tensor, loss=ours: loss(tensor).sum())(value)
        members = torch.stack((value, value))
        with pytest.raises(ValueError, match=f"{name}: expected .*without gradient"):
            torch.func.grad(lambda tensors, loss=ours: torch.func.vmap(loss)(tensors).sum())(members)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_probabilities_of_other_types(dtype, reduction):
    """Their gradient, in their own type."""
    arguments = [t.to(dtype) for t in (LOGITS["input"], LOGITS["hue"], LOGITS["input"].softmax(1))]
    gradients = []
    for function in (hue_cross_entropy, reference_hue_cross_entropy):
        target = arguments[2].clone().requires_grad_()
        labels = LOGITS["labels"].to(dtype)
        loss = function(*arguments[:2], target, labels, hue_scale=1.0, reduction=reduction)
        gradients += torch.autograd.grad(loss.double().sum(), target)
    assert gradients[0].dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


MODULES = {
    "fixed": lambda: hue_nn.HueCrossEntropyLoss(3000),
    "learnable": lambda: hue_nn.HueCrossEntropyLoss(3000, learnable=True),
    "given": lambda: hue_nn.HueCrossEntropyLoss(
        3000, labels=hue_labels(3000, "uniform"), weight=torch.linspace(1, 2, 3000)
    ),
    "given and learnable": lambda: hue_nn.HueCrossEntropyLoss(
        3000, labels=hue_labels(3000, "random"), learnable=True
    ),
}
CONVERSIONS = {
    "bfloat16": lambda module: module.bfloat16(),
    "half": lambda module: module.half(),
    "to": lambda module: module.to(torch.float16),
    "to a device": lambda module: module.to("cpu", torch.bfloat16),
    "type": lambda module: module.type(torch.bfloat16),
    "within a model": lambda module: nn.Sequential(nn.Linear(2, 2), module).bfloat16()[1],
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("kind", MODULES)
def test_16_bits_round_no_label_and_no_weight(kind, conversion):
    module = MODULES[kind]()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    after = CONVERSIONS[conversion](module).state_dict()
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    assert len(module.labels.unique(dim=0)) >= 2990  # all of them, but for random ones that fall together
    loss = module(torch.zeros(2, 3000, dtype=torch.bfloat16), torch.zeros(2, 2), torch.tensor([0, 1]))
    assert loss.dtype == torch.bfloat16


def test_conversions_that_round_nothing_are_followed():
    module = MODULES["given"]().double()
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float64}
    assert module.to("meta").fixed_labels.is_meta
    assert module.bfloat16().fixed_labels.is_meta


def test_given_in_16_bits_they_are_widened():
    labels, weight = hue_labels(9).bfloat16(), torch.rand(9).half()
    module = hue_nn.HueCrossEntropyLoss(9, labels=labels, weight=weight)
    assert torch.equal(module.labels, labels.float())
    assert module.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", ["circle", "random", "uniform", "binary", "center"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_labels_do_not_follow_the_default_type(kind, dtype):
    expected = hue_labels(3000, kind, torch.Generator().manual_seed(0))
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = hue_labels(3000, kind, torch.Generator().manual_seed(0))
        module = hue_nn.HueCrossEntropyLoss(3000, learnable=True)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == module.angles.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", MODULES)
def test_from_the_meta_device(kind):
    made = MODULES[kind]()
    with torch.device("cpu"):
        module = MODULES[kind]().to("meta").to_empty(device="cpu")
    for tensor in module.state_dict().values():
        tensor.fill_(torch.nan)
    module.reset_parameters()
    for name, tensor in module.state_dict().items():
        assert tensor.isfinite().all()
        if "given" in kind and name != "angles":
            assert torch.equal(tensor, getattr(module, f"_given_{name.removeprefix('fixed_')}"))
    if "given" not in kind:
        torch.testing.assert_close(module.labels.norm(dim=1), torch.ones(3000))
        assert not torch.equal(module.labels, made.labels)


def test_what_the_meta_device_was_given_cannot_be_reset():
    module = hue_nn.HueCrossEntropyLoss(3, labels=torch.zeros(3, 2, device="meta"))
    with pytest.raises(RuntimeError, match="labels: given on the meta device"):
        module.to_empty(device="cpu").reset_parameters()


def test_made_on_the_meta_device_and_reset():
    with torch.device("meta"):
        model = hue_nn.HueClassifier(nn.Flatten(), 6, 5)
    model.to_empty(device="cpu")
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        tensor.data.fill_(torch.nan)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        assert tensor.isfinite().all()


BAD = [
    ({"hue_weight": "a"}, TypeError, "hue_weight: expected a number, got 'a'"),
    ({"hue_weight": [1.0]}, TypeError, "hue_weight: expected a number, got "),
    ({"hue_weight": float("nan")}, ValueError, "hue_weight: expected a finite number, got nan"),
    (
        {"hue_weight": torch.ones((), requires_grad=True)},
        TypeError,
        "hue_weight: expected a number, got tensor",
    ),
    ({"hue_scale": "a"}, TypeError, "hue_scale: expected a number of at least 0, got 'a'"),
    ({"label_smoothing": None}, TypeError, "label_smoothing: expected a number, got None"),
    ({"ignore_index": 1.5}, TypeError, "ignore_index: expected an integer, got 1.5"),
    ({"lse_square_scale": "a"}, TypeError, "lse_square_scale: expected a number of at least 0, got 'a'"),
    ({"lse_square_scale": -1.0}, ValueError, "lse_square_scale: expected a finite number of at least 0"),
    ({"softcap": "a"}, TypeError, "softcap: expected a number of at least 0, got 'a'"),
    ({"softcap": 0.0}, ValueError, "softcap: expected a number above 0, or None, got 0.0"),
    ({"softcap": float("inf")}, ValueError, "softcap: expected a finite number"),
    ({"reduction": None}, ValueError, "None is not a valid value for reduction"),
    ({"weight": torch.ones(4)}, ValueError, "weight tensor should be defined either for all 5 classes"),
    ({"weight": [1, 2]}, TypeError, "weight: expected a tensor, got list"),
    ({"labels": "x"}, TypeError, "labels: expected a tensor, got str"),
    ({"labels": torch.zeros(4, 2)}, ValueError, r"labels: expected shape \(5, 2\), got \(4, 2\)"),
    ({"labels": torch.zeros(5, 2, dtype=torch.int64)}, TypeError, "labels: expected float32"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
def test_bad_options_of_functions_and_modules(bad, error, message):
    for case in ("classes", "linear"):
        arguments = CASES[case].arguments | bad
        with pytest.raises(error, match=message):
            CASES[case].function(**arguments)
    with pytest.raises(error, match=message):
        hue_nn.HueCrossEntropyLoss(5, **bad)
    with pytest.raises(error, match=message):
        hue_nn.HueClassifier(nn.Identity(), 6, 5, **bad)


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
def test_a_call_like_an_earlier_one_is_checked_all_the_same(bad, error, message):
    arguments = CASES["classes"].arguments
    for _ in range(2):
        hue_cross_entropy(**arguments)
        with pytest.raises(error, match=message):
            hue_cross_entropy(**arguments | bad)


def test_a_call_like_an_earlier_one_has_its_own_gradients():
    """Whatever requires one, in whatever order; strides and values are no part of its kind."""
    for _ in range(2):
        for names in itertools.chain.from_iterable(itertools.combinations(DIFFERENT, n) for n in range(4)):
            found = []
            for function in (hue_cross_entropy, reference_hue_cross_entropy):
                made = {name: drawn_again(tensor, name in names) for name, tensor in LOGITS.items()}
                with torch.no_grad():
                    assert not hue_cross_entropy(**made).requires_grad
                loss = function(*list(made.values())[:4], weight=made["weight"])
                assert loss.requires_grad == bool(names)
                wanted = [made[name] for name in names]
                found.append((loss, *(torch.autograd.grad(loss, wanted) if wanted else ())))
            torch.testing.assert_close(*found)
            with pytest.raises(ValueError, match="weight: expected a tensor without gradient"):
                hue_cross_entropy(**made | {"weight": made["weight"].clone().requires_grad_()})
    with pytest.raises(IndexError, match="Target 5 is out of bounds"):
        hue_cross_entropy(**LOGITS | {"target": torch.tensor([1, 0, 5, 2])})


DIFFERENT = ("input", "hue", "labels")


def drawn_again(tensor, requires_grad):
    """Of the same kind, transposed in memory."""
    transposed = tensor.T.contiguous().T if tensor.dim() == 2 else tensor.clone()
    return transposed.requires_grad_(requires_grad) if requires_grad else transposed


def test_kinds_of_calls_are_forgotten():
    for i in range(_kinds.MOST + 10):
        hue_cross_entropy(**LOGITS, hue_weight=1.0 + i)
    assert len(_kinds._seen) <= _kinds.MOST


@pytest.mark.parametrize(
    ("function", "name"),
    [(case.function, name) for case in (CASES["classes"], CASES["linear"]) for name in case.arguments],
)
def test_arrays_and_none_are_no_tensors(function, name):
    case = next(case for case in CASES.values() if case.function is function)
    with pytest.raises(TypeError, match=f"{name}: expected a tensor, got ndarray"):
        function(**case.arguments | {name: case.arguments[name].numpy()})
    if name != "weight":
        with pytest.raises(TypeError, match=f"{name}: expected a tensor, got None"):
            function(**case.arguments | {name: None})


@pytest.mark.parametrize("bad", [0, -1, 2.5, "a", None])
def test_bad_sizes(bad):
    for make, name in [
        (lambda: hue_nn.HueHead(4, bad), "num_classes"),
        (lambda: hue_nn.HueHead(bad, 4), "in_features"),
        (lambda: hue_nn.HueHead(4, bad, per_class=True), "num_classes"),
        (lambda: hue_nn.HueCrossEntropyLoss(bad), "num_classes"),
        (lambda: hue_nn.HueClassifier(nn.Identity(), 4, bad), "num_classes"),
        (lambda: hue_labels(bad), "num_classes"),
    ]:
        with pytest.raises((TypeError, ValueError), match=f"{name}: expected"):
            make()
