"""Files that 0.1.0 wrote, and what it answered: `tests/golden`, made once with its code."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from reference import assert_same

import pyhue

GOLDEN = Path(__file__).parent / "golden"


def _without(distances, indices, hidden):
    """Neighbours but for some rows, padded: what is found since these are nobody's neighbours."""
    kept = ~np.isin(indices, hidden)
    order = np.argsort(~kept, axis=1, kind="stable")
    distances, indices = (np.take_along_axis(part, order, axis=1) for part in (distances, indices))
    kept = np.take_along_axis(kept, order, axis=1)
    return pyhue.SearchResult(np.where(kept, distances, np.float32(np.inf)), np.where(kept, indices, -1))


@pytest.mark.parametrize("name", ["0.1.0", "0.1.0-bfloat16"])
def test_memories_of_0_1_0(isa, name):
    memory = pyhue.PixelMemory.load(GOLDEN / f"memory-{name}.safetensors")
    expected = safetensors.numpy.load_file(GOLDEN / f"results-{name}.safetensors")
    hidden = np.flatnonzero(~memory.vectors.any(axis=1))
    assert len(hidden) == (3 if name == "0.1.0" else 0)
    found = memory.search(expected["queries"], len(memory))
    assert_same(found, _without(expected["distances"], expected["indices"], hidden))
    if not len(hidden):  # which had votes then
        np.testing.assert_array_equal(
            memory.log_likelihood(expected["images"], 5), expected["log_likelihood"]
        )


def test_the_plan_of_0_1_0(tmp_path):
    memory = pyhue.PixelMemory.load(GOLDEN / "memory-0.1.0.safetensors")
    plan = memory.explain()
    assert plan["plan"] == "principal"
    memory.save(tmp_path / "memory.safetensors")
    for part in safetensors.numpy.load_file(GOLDEN / "memory-0.1.0.safetensors").items():
        name, array = part
        again = safetensors.numpy.load_file(tmp_path / "memory.safetensors")[name]
        if name == "plan.order":  # every row has a place in it
            assert sorted(again) == sorted(array)
        elif name != "plan.starts":
            assert again.dtype == array.dtype
            np.testing.assert_array_equal(again, array)
