"""Print the tables of errors and gradient norms in hue_loss.md, and the cost of a small call.

Run: python docs/hue_loss.py
"""

import time

import torch
import torch.nn.functional as F

from pyhue.nn.functional import hue_cross_entropy, hue_labels

SCALES = {"1 / (2 C)": None, "scale 1": 1.0, "scale 10": 10.0}


def formula(input, hue, target, labels, reduction="mean", softcap=None, lse_square_scale=0.0):
    """Compute the loss in plain torch."""
    distances = torch.cdist(hue, labels) / (2 * len(labels))
    if softcap is not None:
        input = softcap * torch.tanh(input / softcap)
    terms = [F.cross_entropy(x, target, reduction=reduction) for x in (input, -distances)]
    square = input.logsumexp(1).square()
    return terms[0] + terms[1] + lse_square_scale * (square if reduction == "none" else square.mean())


def example(rows, classes, spread=1.0):
    """Draw normal logits and hue, targets, and labels on the circle, in float64."""
    generator = torch.Generator().manual_seed(0)
    input = spread * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    hue = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (rows,), generator=generator)
    return input, hue, target, hue_labels(classes, generator=generator).double()


def losses_and_gradients(loss, input, hue, target, labels, **options):
    """Compute the loss of each row, and the gradients of their mean."""
    input, hue = input.clone().requires_grad_(), hue.clone().requires_grad_()
    gradients = torch.autograd.grad(loss(input, hue, target, labels, **options), (input, hue))
    return loss(input, hue, target, labels, reduction="none", **options).detach(), *gradients


def largest_errors(results, exact):
    """Losses relative to themselves, gradients relative to their largest entry."""
    loss, *gradients = (result.double() for result in results)
    yield ((loss - exact[0]) / exact[0]).abs().max().item()
    for gradient, expected in zip(gradients, exact[1:], strict=True):
        yield ((gradient - expected).abs().max() / expected.abs().max()).item()


def print_errors(classes, dtype, **options):
    """Print one row of the table of errors."""
    real = torch.float64 if dtype == torch.float64 else torch.float32
    input, hue, target, labels = example(64, classes, spread=3.0)
    arguments = input.to(dtype), hue.to(real), target, labels.to(real)
    # Against the formula of the very same numbers.
    loss, grad_input, grad_hue = losses_and_gradients(
        formula, *(t.double() if t.is_floating_point() else t for t in arguments), **options
    )
    exact = loss, grad_input.to(dtype).double() if dtype.itemsize == 2 else grad_input, grad_hue
    found = losses_and_gradients(hue_cross_entropy, *arguments, **options)
    cells = [f"{e:.0e}" for e in largest_errors(found, exact)]
    if dtype == torch.float32:
        eager = largest_errors(losses_and_gradients(formula, *arguments, **options), exact)
        cells = [f"{cell} ({error:.0e})" for cell, error in zip(cells, eager, strict=True)]
    name = str(dtype).removeprefix("torch.") + (", capped, with z-loss" if options else "")
    print(f"| {classes} | {name} | {' | '.join(cells)} |")


def print_norms(classes):
    """Print one row of the table of gradient norms."""
    input, hue, target, labels = example(256, classes)
    input, hue = input.float().requires_grad_(), hue.float().requires_grad_()
    cells = []
    for scale in SCALES.values():
        loss = hue_cross_entropy(input, hue, target, labels, hue_scale=scale, reduction="sum")
        norms = [gradient.norm(dim=1).mean() for gradient in torch.autograd.grad(loss, (input, hue))]
        cells = cells or [f"{norms[0]:.2g}"]  # the logits' does not depend on the scale
        cells.append(f"{norms[1]:.2g}")
    print(f"| {classes} | {' | '.join(cells)} |")


class Empty(torch.autograd.Function):
    """Does nothing, forward and backward."""

    @staticmethod
    def forward(ctx, input, hue):
        """Return a scalar."""
        ctx.save_for_backward(input, hue)
        return input.new_empty(())

    @staticmethod
    def backward(ctx, grad_loss):
        """Return tensors that are there."""
        return ctx.saved_tensors


def print_overhead(calls=50, rounds=400):
    """Print microseconds of a call for 8 rows and 10 classes, the least of many short rounds."""
    input, hue, target, labels = (t.float() if t.is_floating_point() else t for t in example(8, 10))
    input.requires_grad_()
    hue.requires_grad_()

    def microseconds(call):
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            times.append((time.perf_counter() - begin) / calls)
        return 1e6 * min(times)

    def forward():
        return hue_cross_entropy(input, hue, target, labels)

    def step(loss=forward):
        input.grad = hue.grad = None
        loss().backward()

    def empty_step():
        step(lambda: Empty.apply(input, hue))

    times = [microseconds(call) for call in (forward, step, empty_step)]
    print("8 x 10: forward {:.0f} us, step {:.0f} us, of an empty autograd function {:.0f} us".format(*times))


if __name__ == "__main__":
    print("| C | dtype | loss | gradient of logits | gradient of hue |\n|---|---|---|---|---|")
    for classes in (10, 1000, 21841):
        print_errors(classes, torch.float32)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        print_errors(21841, dtype)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        print_errors(21841, dtype, softcap=5.0, lse_square_scale=1e-3)
    print("\n| C | logits | hue, " + " | hue, ".join(SCALES) + " |\n|---|---|---|---|---|")
    for classes in (10, 100, 1000, 10_000, 21841):
        print_norms(classes)
    print()
    print_overhead()
