"""The density with its gradient, beyond the search, against plain torch on the gathered neighbours.

Run: python -m pytest bench/bench_density.py --benchmark-only -s -o python_files='bench_*.py'
Gradients are asserted equal first; both take the neighbours from the same search, whose time is taken away.
Bytes that have to move: k vectors of each pixel, read once.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pyhue
from pyhue.nn.functional import pixel_density

K, EPS = 10, 0.1


def plain_density(activations, memory, stored, labels, counts):
    """The definition in float32 torch, all images at once."""
    indices = memory.search(activations.detach(), K).indices
    distances = (F.normalize(activations, dim=2)[:, :, None] - stored[indices]).square().sum(-1)
    votes = torch.exp(-distances / (distances[..., :1] + EPS)).flatten(1)
    by_class = votes.new_zeros(len(votes), len(counts)).scatter_add(1, labels[indices].flatten(1), votes)
    return torch.log(by_class / counts)


@pytest.mark.parametrize(("images", "dim", "stored"), [(10, 1280, 20_000), (64, 128, 20_000)])
def test_gradient(turns, report, images, dim, stored):
    rng = np.random.default_rng(0)
    memory = pyhue.PixelMemory(dim)
    memory.add(rng.random((stored // 49, 49, dim), np.float32), np.arange(stored // 49) % 10)
    activations = torch.from_numpy(rng.random((images, 49, dim), np.float32)).requires_grad_()
    memory.optimize()
    vectors, labels, counts = (
        torch.tensor(array) for array in (memory.vectors, memory.labels, memory.class_counts)
    )

    def gradient(density):
        (found,) = torch.autograd.grad(density(activations).clamp(min=-50).logsumexp(1).sum(), activations)
        return found

    def ours():
        return gradient(lambda x: pixel_density(x, memory, K, EPS))

    def theirs():
        return gradient(lambda x: plain_density(x, memory, vectors, labels, counts))

    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-5)
    rivals = {"torch": theirs, "search": lambda: memory.search(activations.detach(), K)}
    times = turns(ours, rivals, warm=True)
    search = times["search"]
    beyond = {name: times[name] - search for name in ("pyhue", "torch")}
    gb = images * 49 * K * dim * 4e-9
    report(
        f"density and gradient, {images} images x 49 x {dim}: search {search * 1e3:.1f} ms, beyond it "
        f"{beyond['pyhue'] * 1e3:.1f} ms ({gb / beyond['pyhue']:.1f} GB/s of neighbours), torch "
        f"{beyond['torch'] * 1e3:.1f} ms, {beyond['torch'] / beyond['pyhue']:.1f}x"
    )
