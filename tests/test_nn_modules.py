import copy
import io
import math
import runpy
from pathlib import Path

import pytest
import torch
from hue_reference import reference_hue_cross_entropy

import pyhue.nn as hue_nn
from pyhue.nn.functional import hue_cross_entropy


def test_circle_labels_are_evenly_spaced_and_shuffled():
    labels = hue_nn.hue_labels(50, generator=torch.Generator().manual_seed(0))
    angles = torch.atan2(labels[:, 1], labels[:, 0]).double()
    steps = angles.sort().values.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * math.pi / 50), rtol=0, atol=1e-5)
    assert not torch.equal(angles.argsort(), torch.arange(50))


@pytest.mark.parametrize("kind", ["circle", "random", "uniform", "binary", "center"])
def test_label_kinds(kind):
    first, second = (hue_nn.hue_labels(200, kind, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (200, 2)
    lengths = first.norm(dim=1)
    if kind in ("circle", "random"):
        torch.testing.assert_close(lengths, torch.ones(200))
    elif kind == "uniform":
        assert first.abs().max() <= 1
        assert first.mean().abs() < 0.2
    elif kind == "binary":
        assert (first.abs() == 1).all()
        assert len(first.unique(dim=0)) == 4
    else:
        assert not lengths.any()


def test_bad_labels():
    with pytest.raises(ValueError, match="num_classes: expected at least 1, got 0"):
        hue_nn.hue_labels(0)
    with pytest.raises(ValueError, match=r"kind: expected 'circle'.*got 'square'"):
        hue_nn.hue_labels(3, "square")
    with pytest.raises(ValueError, match=r"labels: expected shape \(3, 2\), got \(4, 2\)"):
        hue_nn.HueCrossEntropyLoss(3, labels=torch.zeros(4, 2))


def test_learnable_labels_stay_on_the_circle():
    torch.manual_seed(0)
    loss = hue_nn.HueCrossEntropyLoss(7, learnable=True, hue_scale=2.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    hue, target = torch.randn(20, 2), torch.randint(7, (20,))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(loss(torch.zeros(20, 7), hue, target))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    torch.testing.assert_close(loss.labels.norm(dim=1), torch.ones(7))


def test_gradient_of_learnable_labels():
    start = 3 * hue_nn.hue_labels(5, generator=torch.Generator().manual_seed(0))  # their lengths are lost
    criterion = hue_nn.HueCrossEntropyLoss(5, labels=start, learnable=True, hue_scale=1.0)
    torch.testing.assert_close(criterion.labels, start / 3)
    input, hue, target = torch.zeros(4, 5), torch.randn(4, 2), torch.tensor([0, 1, 2, 2])
    criterion(input, hue, target).backward()

    angles = torch.atan2(start[:, 1], start[:, 0]).double().requires_grad_()
    labels = torch.stack((angles.cos(), angles.sin()), dim=1)
    reference_hue_cross_entropy(input, hue, target, labels, hue_scale=1.0).backward()
    torch.testing.assert_close(criterion.angles.grad.double(), angles.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_head_with_a_hue_of_every_class(bias):
    head = hue_nn.HueHead(6, 5, bias=bias, per_class=True)
    features = torch.randn(3, 6)
    logits, hue = head(features)
    assert logits.shape == (3, 5)
    assert hue.shape == (3, 5, 2)
    for c in range(5):
        rows = slice(2 * c, 2 * c + 2)
        own = torch.nn.functional.linear(
            features, head.hue.weight[rows], head.hue.bias[rows] if bias else None
        )
        torch.testing.assert_close(hue[:, c], own)
    assert len(list(head.parameters())) == (4 if bias else 2)


def test_classifier_with_a_hue_of_every_class():
    options = {"label_smoothing": 0.1, "hue_scale": 1.0, "hue_weight": 2.0, "reduction": "sum"}
    model = hue_nn.HueClassifier(torch.nn.Flatten(), 12, 5, per_class=True, learnable=True, **options)
    images, target = torch.randn(6, 3, 2, 2), torch.randint(5, (6,))
    loss = model(images, target)
    expected = hue_cross_entropy(*model.head(images.flatten(1)), target, model.loss.labels, **options)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    assert model.eval()(images).shape == (6, 5)


def test_classifier_gives_logits_or_loss():
    model = hue_nn.HueClassifier(torch.nn.Flatten(), 12, 5, label_smoothing=0.1)
    images, target = torch.randn(6, 3, 2, 2), torch.randint(5, (6,))
    assert model.eval()(images).shape == (6, 5)
    loss = model.train()(images, target)
    loss.backward()
    assert loss.shape == ()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("learnable", [False, True])
def test_state_dict_round_trip(learnable):
    first, second = (
        hue_nn.HueCrossEntropyLoss(9, weight=torch.rand(9), learnable=learnable) for _ in range(2)
    )
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    arguments = (torch.randn(4, 9), torch.randn(4, 2), torch.tensor([0, 3, 8, 1]))
    assert torch.equal(first(*arguments), second(*arguments))
    assert torch.equal(copy.deepcopy(first)(*arguments), first(*arguments))


def test_autocast_gives_a_float32_loss():
    head, features, target = hue_nn.HueHead(6, 5), torch.randn(8, 6), torch.randint(5, (8,))
    criterion = hue_nn.HueCrossEntropyLoss(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, hue = head(features)
        loss = criterion(logits, hue, target)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, criterion(logits.float(), hue.float(), target))
    loss.backward()
    assert head.classifier.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_autocast_takes_the_types_that_torch_takes(dtype):
    input, hue, target = torch.randn(4, 5).to(dtype), torch.randn(4, 2), torch.tensor([0, 1, 2, 3])
    criterion = hue_nn.HueCrossEntropyLoss(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = criterion(input, hue, target)
        expected = torch.nn.functional.cross_entropy(input, target).dtype
    assert loss.dtype == expected
    assert torch.equal(loss, criterion(input.to(expected), hue, target))


def test_autocast_keeps_gradients_that_a_scaler_saves():
    input = torch.zeros(1, 2, dtype=torch.float16)
    input[0, 1] = -20  # its probability is 2e-9: 0 in float16
    input.requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = hue_nn.HueCrossEntropyLoss(2)(input, torch.zeros(1, 2), torch.tensor([0]))
    (65536 * loss).backward()
    torch.testing.assert_close(input.grad[0, 1].item(), 65536 * math.exp(-20), rtol=1e-2, atol=0)


def test_example_trains(capsys):
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "train_digits.py"))
    assert float(capsys.readouterr().out.split()[-1]) > 0.85


def test_tables_of_the_page_are_what_its_script_prints(capsys):
    docs = Path(__file__).parents[1] / "docs"
    script = runpy.run_path(str(docs / "hue_loss.py"))
    script["print_norms"](100)
    assert capsys.readouterr().out in (docs / "hue_loss.md").read_text()
    script["print_errors"](10, torch.float32)
    assert capsys.readouterr().out.startswith("| 10 | float32 |")
    script["print_overhead"](calls=1, rounds=1)
    assert capsys.readouterr().out.startswith("8 x 10: forward")
