"""A step of the hue loss, forward and backward, for few rows.

Against cross-entropy alone, and against an autograd function in Python that does nothing.

Run: make bench, or: python -m pytest bench/bench_small_batches.py --benchmark-only -s
Rivals take turns in one process; medians of five runs, with the least and the largest.
"""

import statistics
import time

import pytest
import torch
import torch.nn.functional as F

from pyhue.nn._options import GRADIENTS, REDUCTIONS
from pyhue.nn.functional import hue_cross_entropy, hue_labels

RUNS, STEPS = 5, 10  # of a turn


class Empty(torch.autograd.Function):
    """Does nothing, forward and backward."""

    @staticmethod
    def forward(ctx, input, hue):
        """Return a scalar; keep what the backward returns."""
        ctx.save_for_backward(input.detach(), hue.detach())
        return input.new_empty(())

    @staticmethod
    def backward(ctx, grad_loss):
        """Return tensors that are there."""
        return ctx.saved_tensors


def example(rows, classes):
    """Logits, hue, targets and labels."""
    torch.manual_seed(0)
    input, hue = (torch.randn(rows, size, requires_grad=True) for size in (classes, 2))
    return input, hue, torch.randint(classes, (rows,)), hue_labels(classes)


@pytest.mark.parametrize(("rows", "classes"), [(8, 10), (64, 101), (256, 1000)])
def test_step(benchmark, report, rows, classes):
    """Reports microseconds of a step, and what they are of cross-entropy's."""
    input, hue, target, labels = example(rows, classes)
    options = (1.0, 1 / (2 * classes), -100, REDUCTIONS["mean"], 0.0, 0.0, 0.0, GRADIENTS)
    detached = input.detach(), hue.detach(), target, labels, None, None, *options

    def step(loss):
        def call():
            input.grad = hue.grad = None
            loss().backward()

        return call

    calls = {
        "hue": step(lambda: hue_cross_entropy(input, hue, target, labels)),
        "cross_entropy": step(lambda: F.cross_entropy(input, target)),
        "empty": step(lambda: Empty.apply(input, hue)),
        "operator": lambda: torch.ops.pyhue.hue_cross_entropy.default(*detached),
    }
    loss = hue_cross_entropy(input, hue, target, labels, hue_weight=0.0)
    torch.testing.assert_close(loss, F.cross_entropy(input, target))
    rounds = 40 if rows * classes > 100_000 else 150

    def medians():
        times = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                begin = time.perf_counter()
                for _ in range(STEPS):
                    call()
                times[name].append((time.perf_counter() - begin) / STEPS)
        return {name: 1e6 * statistics.median(seconds) for name, seconds in times.items()}

    runs = [medians() for _ in range(RUNS)]
    ratios = [run["hue"] / run["cross_entropy"] for run in runs]
    benchmark.pedantic(calls["hue"], rounds=1)

    def spread(values, digits=0):
        return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"

    figures = "; ".join(f"{name} {spread([run[name] for run in runs])} us" for name in calls)
    report(f"{rows} x {classes}: {figures}; {spread(ratios, 2)} of cross_entropy")
