import math
import runpy
from pathlib import Path

import pytest
import torch

import pyhue.nn as hue_nn


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


def test_classifier_gives_logits_or_loss():
    model = hue_nn.HueClassifier(torch.nn.Flatten(), 12, 5, label_smoothing=0.1)
    images, target = torch.randn(6, 3, 2, 2), torch.randint(5, (6,))
    assert model.eval()(images).shape == (6, 5)
    loss = model.train()(images, target)
    loss.backward()
    assert loss.shape == ()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_example_trains(capsys):
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "train_digits.py"))
    assert float(capsys.readouterr().out.split()[-1]) > 0.85
