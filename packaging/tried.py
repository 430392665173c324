"""What a wheel has to do where it is installed: python tried.py [torch]. Run away from the source folder."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import pyhue

assert "site-packages" in pyhue.__file__, pyhue.__file__
rng = np.random.default_rng(0)
vectors = rng.standard_normal((2000, 64)).astype(np.float32)
memory = pyhue.PixelMemory(dim=64, normalize=False)
memory.add(vectors.reshape(100, 20, 64), np.arange(100) % 7)
memory.optimize()
found = memory.search(vectors[:50], 3)
assert (found.indices[:, 0] == np.arange(50)).all()
squared = ((vectors[:50, None] - vectors[None]) ** 2).sum(-1)
np.testing.assert_allclose(found.distances, np.sort(squared, axis=1)[:, :3], atol=1e-3)
memory.save("memory.safetensors")
again = pyhue.PixelMemory.load("memory.safetensors").search(vectors[:50], 3)
assert (again.indices == found.indices).all()
command = Path(sys.executable).with_name("pyhue")
subprocess.run([command, "info"], check=True)

if sys.argv[1:] == ["torch"]:
    import torch

    import pyhue.nn
    from pyhue.nn.functional import hue_cross_entropy

    logits = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    hue = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    labels = pyhue.nn.hue_labels(5, "circle", torch.Generator().manual_seed(0)).double()
    target = torch.arange(8) % 5
    loss = hue_cross_entropy(logits, hue, target, labels, hue_weight=0.5, hue_scale=1)
    distances = torch.cdist(hue, labels)
    expected = torch.nn.functional.cross_entropy(logits, target)
    expected = expected + 0.5 * torch.nn.functional.cross_entropy(-distances, target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, [logits, hue]), torch.autograd.grad(expected, [logits, hue])
    )
    print("torch", torch.__version__, "ok")
