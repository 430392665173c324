"""The hue loss fused with its linear layers, forward and backward, against F.linear_cross_entropy.

Run: make bench, or: python -m pytest bench/bench_linear_hue_cross_entropy.py --benchmark-only
Rivals take turns of one step in one process: torch's whole logits, its chunks at their best size for each
policy, its own choice (once where that is slow), none with hue, and pyhue's layers unfused. Losses and
gradients of cross-entropy alone are asserted equal first. "products" is the three matrix products alone,
as few calls as can be. Errors are of the weight gradient: norm of the difference from float64, relative.
"""

import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch.nn import LinearCrossEntropyOptions

from pyhue.nn.functional import hue_cross_entropy, hue_labels, linear_hue_cross_entropy

ROWS, CLASSES, FEATURES = 1024, 50_000, 512
OPERATIONS = 3 * 2 * ROWS * CLASSES * FEATURES
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def example(dtype):
    torch.manual_seed(0)
    shapes = [(ROWS, FEATURES), (CLASSES, FEATURES), (CLASSES,), (2, FEATURES), (2,)]
    tensors = [(0.05 * torch.randn(shape)).to(dtype).requires_grad_() for shape in shapes]
    return tensors, torch.randint(CLASSES, (ROWS,)), hue_labels(CLASSES)


def losses(dtype, hue_weight=1.0):
    """Each rival: a step, which returns the loss and its gradients."""
    tensors, target, labels = example(dtype)

    def step(loss, count):
        value = loss()
        return value.detach(), *torch.autograd.grad(value, tensors[:count])

    def fused():
        return linear_hue_cross_entropy(*tensors, target, labels, hue_weight=hue_weight)

    def unfused():
        input, weight, bias, *hue = tensors
        logits, hue = F.linear(input, weight, bias), F.linear(input, *hue)
        return hue_cross_entropy(logits, hue, target, labels, hue_weight=hue_weight)

    def by_torch(options):
        input, weight, bias, *_ = tensors
        return F.linear_cross_entropy(input, weight, target, linear_bias=bias, options=options)

    def chunks(rows, policy):
        wide = None if dtype == torch.float32 else torch.float32
        return LinearCrossEntropyOptions(
            batch_chunk_size=rows, chunking_method=None, acc_policy=policy, acc_dtype=wide
        )

    options = {"torch whole": None}
    if dtype == torch.float32:
        options |= {f"torch {rows} rows": chunks(rows, "compact") for rows in (256, 512)}
    else:
        options |= {f"torch {policy} 1024 rows": chunks(1024, policy) for policy in ("accurate", "balanced")}
        options |= {"torch accurate 256 rows": chunks(256, "accurate")}
    options |= {"torch auto": LinearCrossEntropyOptions()}
    calls = {"pyhue": lambda: step(fused, 5), "unfused": lambda: step(unfused, 5)}
    return calls | {name: lambda o=o: step(lambda: by_torch(o), 3) for name, o in options.items()}


def products(dtype):
    input, weight = (torch.randn(size, FEATURES, dtype=dtype) for size in (ROWS, CLASSES))
    logits = torch.zeros(ROWS, CLASSES, dtype=dtype)
    outputs = torch.empty_like(logits), torch.empty_like(input), torch.empty_like(weight)

    def step():
        torch.mm(input, weight.T, out=outputs[0])
        torch.mm(logits, weight, out=outputs[1])
        torch.mm(logits.T, input, out=outputs[2])

    return step


def exact_weight_gradient(dtype):
    """In float64, of cross-entropy alone."""
    (input, weight, bias, *_), target, _ = example(dtype)
    input, weight, bias = (t.detach().double() for t in (input, weight, bias))
    probabilities = torch.addmm(bias, input, weight.T).softmax(1)
    probabilities[torch.arange(ROWS), target] -= 1
    return probabilities.T @ input / ROWS


def peak_memory(name, dtype):
    """Bytes of resident memory at the peak of one step, beyond those before it and the gradients.

    Small steps have loaded torch's libraries before.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(__file__.rpartition('/')[0])!r})\n"
        "import re, torch, bench_linear_hue_cross_entropy as bench\n"
        "def memory(name):\n"
        "    return 1024 * int(re.search(name + r':\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "classes, bench.CLASSES = bench.CLASSES, 100\n"
        f"bench.losses(bench.DTYPES[{dtype!r}])[{name!r}]()\n"
        "bench.CLASSES = classes\n"
        f"step = bench.losses(bench.DTYPES[{dtype!r}])[{name!r}]\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "resident = memory('VmRSS')\n"
        "gradients = sum(gradient.nbytes for gradient in step())\n"
        "print(memory('VmHWM') - resident - gradients)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(run.stdout)


def once(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@pytest.mark.parametrize("name", DTYPES)
def test_linear(turns, report, fma_peak, name):
    dtype = DTYPES[name]
    exact, errors, expected = exact_weight_gradient(dtype), {}, None
    plain, calls = losses(dtype, hue_weight=0.0), losses(dtype)
    single = {rival: once(call) for rival, call in calls.items()}
    for rival, call in plain.items():
        result = [t.double() for t in call()[:4]]
        errors[rival] = ((result[2] - exact).norm() / exact.norm()).item()
        expected = expected or result
        # Where rows' gradients are divided by their number in float16, those of the bias are lost.
        compared = 3 if dtype == torch.float16 else 4
        for ours, theirs in zip(expected[:compared], result[:compared], strict=True):
            assert (ours - theirs).norm() <= TOLERANCE[dtype] * theirs.norm(), rival
    rounded = ((exact.to(dtype).double() - exact).norm() / exact.norm()).item()
    del exact, expected, plain

    timed = {rival: lambda call=call: call() and None for rival, call in calls.items() if single[rival] < 10}
    seconds = turns(timed.pop("pyhue"), timed | {"products": products(dtype)}, rounds=5)
    best = min(seconds[rival] for rival in seconds if rival.startswith("torch"))
    ours, peak = seconds["pyhue"], f" ({fma_peak:.0f} GF/s of float32 multiply-adds)"
    report(
        f"{name}, torch {torch.__version__}: {ours:.3f} s, {ours / best:.2f} of torch's best; three products "
        f"alone {seconds['products']:.3f} s; {OPERATIONS / ours / 1e9:.0f} GF/s{peak}; rounding {rounded:.1e}"
    )
    for rival in calls:
        report(
            f"  {rival:24} {seconds.get(rival, single[rival]):6.3f} s, error {errors[rival]:.1e}, "
            f"memory beyond the gradients {peak_memory(rival, name) / 1e6:5.0f} MB"
        )
