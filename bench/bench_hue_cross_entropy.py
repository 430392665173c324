"""The hue loss, forward and backward, against cross-entropy alone, the eager hue loss and torch.compile.

Run: make bench, or: python -m pytest bench/bench_hue_cross_entropy.py --benchmark-only
Rivals take turns of one step in one process. Losses and gradients are asserted equal first. Floor:
8 bytes a logit (read it, write its gradient) at the bandwidth of a copy.
"""

import time

import pytest
import torch
import torch.nn.functional as F

from pyhue.nn.functional import hue_cross_entropy, hue_labels


def eager_hue_loss(input, hue, target, labels):
    distances = torch.cdist(hue, labels) / (2 * len(labels))
    return F.cross_entropy(input, target) + F.cross_entropy(-distances, target)


def plain_cross_entropy(input, hue, target, labels):
    return F.cross_entropy(input, target)


@pytest.fixture(scope="module")
def bandwidth():
    """Bytes per second, read plus written, of a copy between two buffers far beyond the caches."""
    source, target = torch.ones(2, 32 << 20)
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - begin)
    return 2 * source.nbytes / min(seconds)


# torch.compile of torch 2.13 uses its own deprecated functions.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("rows", "classes"), [(8, 10), (64, 101), (256, 1000), (1024, 1000), (256, 21841)])
def test_loss(turns, report, bandwidth, rows, classes):
    torch.manual_seed(0)
    input = torch.randn(rows, classes, requires_grad=True)
    hue = torch.randn(rows, 2, requires_grad=True)
    labels, target = hue_labels(classes), torch.randint(classes, (rows,))
    torch._dynamo.reset()

    def step(loss):
        input.grad = hue.grad = None
        value = loss(input, hue, target, labels)
        value.backward()
        return value.detach(), input.grad, hue.grad

    losses = {"pyhue": hue_cross_entropy, "eager": eager_hue_loss, "compiled": torch.compile(eager_hue_loss)}
    expected = step(eager_hue_loss)
    for loss in losses.values():
        for ours, theirs in zip(step(loss), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)

    def timed(loss):
        def call():
            step(loss)  # returns nothing: whoever kept the gradients would make the next call allocate others

        return call

    calls = {name: timed(loss) for name, loss in losses.items()}
    calls["cross_entropy"] = timed(plain_cross_entropy)
    rounds = max(31, min(1001, 15_000_000 // (rows * classes)))
    seconds = turns(calls.pop("pyhue"), calls, rounds)
    ours, bytes_moved = seconds["pyhue"], 8 * rows * classes
    report(
        f"{f'{rows} x {classes}':>11} {ours * 1e6:8.1f} us, {ours / seconds['cross_entropy']:5.2f} of "
        f"cross_entropy; eager {seconds['eager'] / ours:5.1f}x, compiled {seconds['compiled'] / ours:5.1f}x; "
        f"{bytes_moved / ours / bandwidth:4.0%} of the floor ({bandwidth / 1e9:.1f} GB/s)"
    )
