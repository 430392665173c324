"""The hue loss on a GPU, forward and backward, against torch: python bench/bench_cuda_hue.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from cuda_record import record
from cuda_timing import captured, copy_bandwidth, medians
from torch import Tensor

from pyhue.nn.functional import hue_cross_entropy, hue_labels


def eager(input: Tensor, hue: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """The loss as the README states it."""
    return F.cross_entropy(input, target) + F.cross_entropy(
        -torch.cdist(hue, labels) / (2 * len(labels)), target
    )


def assert_gradients(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    """Compares the gradients of two losses."""
    for a, b in zip(*(torch.autograd.grad(loss, leaves) for loss in (ours, theirs)), strict=True):
        largest = b.abs().max().item()
        torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=1e-2 * largest)


def main() -> None:
    """Measures two shapes in two dtypes, as calls and as CUDA graphs: the host may be slower than the GPU."""
    bandwidth, rows = copy_bandwidth(), []
    for (n, classes), dtype in [
        (s, d) for s in ((8192, 1000), (4096, 100_000)) for d in (torch.bfloat16, torch.float32)
    ]:
        torch.manual_seed(0)
        torch.compiler.reset()  # code for this shape alone
        compiled = torch.compile(F.cross_entropy, dynamic=False)
        input = torch.randn(n, classes, device="cuda", dtype=dtype, requires_grad=True)
        hue = torch.randn(n, 2, device="cuda", requires_grad=True)
        target = torch.randint(classes, (n,), device="cuda")
        labels = hue_labels(classes).cuda()

        def both(loss: Callable[[], Tensor], *leaves: Tensor) -> Callable[[], object]:
            return lambda: torch.autograd.grad(loss(), leaves)

        arguments = (input, hue, target, labels)
        ours, theirs = hue_cross_entropy(*arguments), eager(input.float(), hue, target, labels)
        torch.testing.assert_close(ours.float(), theirs, rtol=1e-2, atol=1e-3)
        assert_gradients(ours, theirs, input, hue)
        functions = {
            "pyhue": both(lambda a=arguments: hue_cross_entropy(*a), input, hue),
            "cross_entropy": both(lambda x=input, t=target: F.cross_entropy(x, t), input),
            "compiled": both(lambda x=input, t=target, f=compiled: f(x, t), input),
            "eager hue": both(lambda a=arguments: eager(*a), input, hue),
        }
        replays = {f"{name} graph": captured(function) for name, function in functions.items()}
        times = medians(functions | replays)
        floor = 2 * input.nbytes / bandwidth * 1e3
        row = {
            "n": n,
            "classes": classes,
            "dtype": str(dtype),
            "floor ms": floor,
            "of floor": floor / times["pyhue graph"],
        }
        del replays  # and the memory of the graphs
        rows.append(row | {f"{name} ms": ms for name, ms in times.items()})
    record("cuda_hue", rows, bandwidth=bandwidth)


if __name__ == "__main__":
    main()
