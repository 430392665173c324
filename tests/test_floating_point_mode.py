"""Results do not depend on the floating-point mode of the calling thread: flush-to-zero changes no bit."""

import numpy as np
import pytest

pytest.importorskip("torch")

SCRIPT = """
import hashlib
import numpy as np, torch
import pyhue, pyhue.nn
from pyhue import _core

rng = np.random.default_rng(0)
normal = rng.standard_normal((3040, 24))
data = {{scale: (normal * scale).astype(np.float32) for scale in (1.0, 1e-18, 1e-20)}}
assert torch.set_flush_denormal({flush}) or not {flush}
tiny = np.float32(1e-40) * np.ones(1, np.float32)

def digest_of(rows):
    vectors, queries = rows[:3000], rows[3000:]
    digest = hashlib.sha256()
    for level in _core.available_isas():
        _core.set_isa(level)
        for threads in (1, 2):
            pyhue.set_num_threads(threads)
            for normalize in (False, True):
                memory = pyhue.PixelMemory(24, normalize=normalize)
                memory.add(vectors[:2000].reshape(40, 50, 24), np.arange(40))
                memory.search(queries[:2])
                memory.add(vectors[2000:].reshape(20, 50, 24), np.arange(20))
                found = memory.search(queries, 10)
                scores = memory.log_likelihood(queries.reshape(4, 10, 24))
                for array in (*found, scores, memory.vectors):
                    digest.update(np.ascontiguousarray(array).tobytes())
        logits = torch.from_numpy(queries.copy()).requires_grad_()
        hue = torch.from_numpy(vectors[:40, :2].copy()).requires_grad_()
        labels = pyhue.nn.hue_labels(24, "circle", torch.Generator().manual_seed(0))
        loss = pyhue.nn.functional.hue_cross_entropy(logits, hue, torch.arange(40) % 24, labels)
        loss.backward()
        for tensor in (loss, logits.grad, hue.grad):
            digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()

for scale, rows in data.items():
    assert ((tiny * np.float32(1)) == 0).all() == {flush}  # the mode is what it is meant to be, and stays so
    print(scale, digest_of(rows))
assert ((tiny * np.float32(1)) == 0).all() == {flush}
"""


def test_flush_to_zero_changes_nothing(run_python):
    outcomes = [run_python(SCRIPT.format(flush=flush)) for flush in (False, True)]
    assert all(outcome.returncode == 0 for outcome in outcomes), outcomes[1].stderr or outcomes[0].stderr
    assert outcomes[0].stdout == outcomes[1].stdout
    assert len(outcomes[0].stdout.splitlines()) == 3


def test_search_at_tiny_scales_is_exact():
    """Squares that flush-to-zero would lose decide which neighbour is nearest."""
    import torch
    from reference import assert_exact, memory_of

    rng = np.random.default_rng(1)
    vectors, queries = ((rng.standard_normal((n, 24)) * 1e-18).astype(np.float32) for n in (500, 20))
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU has no flush-to-zero")
    try:
        found = memory_of(vectors).search(queries, 5)
    finally:
        torch.set_flush_denormal(False)
    assert_exact(found, queries, vectors)
