"""The loss on torch's own samples of cross_entropy: with a hue term of weight 0 it is cross_entropy."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("expecttest")  # torch's samples need it
from torch.testing._internal.common_methods_invocations import op_db

from pyhue.nn.functional import hue_cross_entropy, hue_labels

CROSS_ENTROPY = next(op for op in op_db if op.name == "nn.functional.cross_entropy")


def samples(dtype):
    return list(CROSS_ENTROPY.sample_inputs("cpu", dtype, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_samples_of_torch(dtype):
    found = samples(dtype)
    assert len(found) >= 20
    for sample in found:
        input, (target,), options = sample.input, sample.args, sample.kwargs
        options["weight"] = None if options.get("weight") is None else options["weight"].detach()
        classes, batch = input.shape[min(input.dim() - 1, 1)], input.shape[: input.dim() > 1]
        hue = torch.zeros(*batch, 2, *input.shape[2:])
        arguments = (input, hue, target, hue_labels(classes))
        loss = hue_cross_entropy(*arguments, hue_weight=0.0, **options)
        found_type = F.cross_entropy(input, target, **options).dtype
        # In 16 bits cross_entropy rounds on its way, so it is given doubles.
        wide = [t.double() if t.is_floating_point() else t for t in (input, target)]
        if options["weight"] is not None:
            options["weight"] = options["weight"].double()
        expected = F.cross_entropy(*wide, **options)
        assert (loss.dtype, loss.shape) == (found_type, expected.shape)
        torch.testing.assert_close(loss, expected.to(found_type), equal_nan=True)
        leaves = [tensor for tensor in (input, target) if tensor.requires_grad]
        upstream = torch.rand_like(loss)
        ours = torch.autograd.grad(loss, leaves, upstream)
        theirs = torch.autograd.grad(expected, leaves, upstream.double())
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)
