"""Time the hue loss, forward and backward, against cross-entropy alone, the eager hue loss and torch.compile.

Run: python bench/bench_hue_cross_entropy.py [--no-compile] [--threads 2] [--linear]

Rivals take turns in one process; times are medians. The hue losses and their gradients are asserted equal.
Floor: 8 bytes a logit (read it, write its gradient) at the bandwidth of a copy, measured here.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import pyhue
from pyhue.nn.functional import hue_cross_entropy, hue_labels, linear_hue_cross_entropy

SIZES = [(8, 10), (64, 101), (256, 1000), (1024, 1000), (256, 21841)]


def eager_hue_loss(input, hue, target, labels):
    distances = torch.cdist(hue, labels) / (2 * len(labels))
    return F.cross_entropy(input, target) + F.cross_entropy(-distances, target)


def plain_cross_entropy(input, hue, target, labels):
    return F.cross_entropy(input, target)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(rivals: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each rival; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, call in rivals.items():
            times[name].append(seconds(call))
    return {name: statistics.median(t) for name, t in times.items()}


def copy_bandwidth() -> float:
    """Bytes per second, read plus written, of a copy between two buffers far beyond the caches."""
    source, target = torch.ones(2, 32 << 20)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(10))


def bench_size(rows: int, classes: int, compile_rival: bool, bandwidth: float) -> None:
    torch.manual_seed(0)
    input = torch.randn(rows, classes, requires_grad=True)
    hue = torch.randn(rows, 2, requires_grad=True)
    labels, target = hue_labels(classes), torch.randint(classes, (rows,))
    losses = {"pyhue": hue_cross_entropy, "eager": eager_hue_loss}
    if compile_rival:
        losses["compiled"] = torch.compile(eager_hue_loss)

    def step(loss):
        input.grad = hue.grad = None
        value = loss(input, hue, target, labels)
        value.backward()
        return value.detach(), input.grad, hue.grad

    expected = step(eager_hue_loss)
    for loss in losses.values():
        for ours, theirs in zip(step(loss), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    rivals = {name: lambda loss=loss: step(loss) for name, loss in losses.items()}
    rivals["cross_entropy"] = lambda: step(plain_cross_entropy)
    times = alternate(rivals, rounds=max(25, min(2000, 20_000_000 // (rows * classes))))
    ours = times["pyhue"]
    floor = 8 * rows * classes / bandwidth
    columns = [f"{rows} x {classes}".rjust(12), f"{ours * 1e6:9.1f} us"]
    columns.append(f"{ours / times['cross_entropy']:5.2f} of cross_entropy")
    columns += [f"{times[name] / ours:6.2f}x {name}" for name in losses if name != "pyhue"]
    columns.append(f"{8 * rows * classes / ours / 1e9:6.2f} GB/s, {100 * floor / ours:3.0f} % of the floor")
    print("  ".join(columns), flush=True)


def bench_linear(rows: int = 1024, classes: int = 100_000, features: int = 512) -> None:
    torch.manual_seed(0)
    shapes = [(rows, features), (classes, features), (classes,), (2, features), (2,)]
    tensors = [(0.05 * torch.randn(shape)).requires_grad_() for shape in shapes]
    labels, target = hue_labels(classes), torch.randint(classes, (rows,))

    def unfused():
        input, weight, bias, hue_weight, hue_bias = tensors
        logits, hue = F.linear(input, weight, bias), F.linear(input, hue_weight, hue_bias)
        return torch.autograd.grad(hue_cross_entropy(logits, hue, target, labels), tensors)

    def fused():
        return torch.autograd.grad(linear_hue_cross_entropy(*tensors, target, labels), tensors)

    for ours, theirs in zip(fused(), unfused(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    times = alternate({"fused": fused, "unfused": unfused}, rounds=3)
    results = ", ".join(f"{name} {value:.2f} s" for name, value in times.items())
    print(f"linear {rows} x {classes}, F = {features}: {results}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--linear", action="store_true", help="also the loss fused with the linear layer")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bandwidth = copy_bandwidth()
    isa = torch.ops.pyhue.isa("")
    print(
        f"pyhue {pyhue.__version__} ({isa}), torch {torch.__version__}, {options.threads} threads, "
        f"copy {bandwidth / 1e9:.1f} GB/s; forward + backward"
    )
    for rows, classes in SIZES:
        bench_size(rows, classes, not options.no_compile, bandwidth)
    if options.linear:
        bench_linear()


if __name__ == "__main__":
    main()
