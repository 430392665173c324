"""An optimised memory is saved with its plan, and a damaged plan is refused."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import pyhue


@pytest.fixture(params=["plain", "principal"])
def optimized(request):
    rng = np.random.default_rng(0)
    if request.param == "plain":
        activations = rng.random((60, 20, 256))
    else:
        activations = rng.standard_normal((60, 20, 12)) @ rng.standard_normal((12, 256))
        activations = activations + 0.05 * rng.standard_normal((60, 20, 256))
    memory = pyhue.PixelMemory(256)
    memory.add(activations, np.arange(60) % 3)
    memory.optimize()
    assert memory.explain()["plan"] == request.param
    return memory


def test_round_trip(optimized, tmp_path):
    optimized.save(tmp_path / "memory.safetensors")
    loaded = pyhue.PixelMemory.load(tmp_path / "memory.safetensors")
    assert loaded.explain() == optimized.explain()
    queries = np.random.default_rng(1).random((30, 256))
    for ours, theirs in zip(loaded.search(queries), optimized.search(queries), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_vectors_added_after_optimizing(optimized, tmp_path):
    optimized.add(np.random.default_rng(2).random((5, 20, 256)), np.full(5, 7))
    optimized.save(tmp_path / "memory.safetensors")
    loaded = pyhue.PixelMemory.load(tmp_path / "memory.safetensors")
    expected = pyhue.PixelMemory(256, normalize=False)
    expected.add(optimized.vectors[:, None], optimized.labels)
    queries = optimized.vectors[::50]
    for ours, theirs in zip(loaded.search(queries), expected.search(queries), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _damage(path, change):
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        names = list(file.keys())
        arrays = {name: file.get_tensor(name) for name in names}
    change(arrays, metadata)
    safetensors.numpy.save_file(arrays, path, metadata)


def _number(name, value):
    def change(arrays, metadata):
        metadata["plan"] = json.dumps(json.loads(metadata["plan"]) | {name: value})

    return change


def _replace(name, function):
    def change(arrays, metadata):
        arrays[f"plan.{name}"] = function(arrays.get(f"plan.{name}", np.zeros(256)))

    return change


DAMAGES = {
    "no numbers": lambda arrays, metadata: metadata.update(plan=""),
    "not JSON": lambda arrays, metadata: metadata.update(plan="{"),
    "not a mapping": lambda arrays, metadata: metadata.update(plan="[1]"),
    "no center": lambda arrays, metadata: arrays.pop("plan.center"),
    "too many dimensions": _number("block_ends", [5000]),
    "no dimensions": _number("block_ends", [0]),
    "no stages": _number("block_ends", []),
    "a number for stages": _number("block_ends", 256),
    "fewer dimensions": _number("row_ends", [320]),
    "huge dimensions": _number("row_ends", [2**70]),
    "rows before the beginning": _number("row_begin", -64),
    "dimensions of 0.1.0 without a rotation": lambda arrays, metadata: (
        arrays.update({"plan.rotation": np.zeros((257, 256))}),
        _number("block_dims", 4)(arrays, metadata),
    ),
    "steps": _replace("steps", lambda steps: -steps),
    "no steps": lambda arrays, metadata: arrays.pop("plan.steps"),
    "measured": _number("measured", 3),
    "center of another size": _replace("center", lambda center: center[:-1]),
    "NaN": _replace("center", lambda center: center * np.nan),
    "single precision": _replace("center", lambda center: center.astype(np.float32)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_plan(optimized, tmp_path, damage):
    path = tmp_path / "memory.safetensors"
    optimized.save(path)
    _damage(path, DAMAGES[damage])
    with pytest.raises(ValueError, match=r"memory\.safetensors: .*plan"):
        pyhue.PixelMemory.load(path)


CLUSTER_DAMAGES = {
    "order": _replace("order", np.zeros_like),
    "starts": _replace("starts", lambda starts: starts[::-1].copy()),
    "too few starts": _replace("starts", lambda starts: starts[:-1]),
    "centroids": _replace("centroids", lambda centroids: centroids[0].copy()),
    "rotation": _replace("rotation", lambda rotation: rotation[:-1]),
    "no centroids": lambda arrays, metadata: arrays.pop("plan.centroids"),
}


@pytest.mark.parametrize("optimized", ["principal"], indirect=True)
@pytest.mark.parametrize("damage", CLUSTER_DAMAGES)
def test_damaged_clusters(optimized, tmp_path, damage):
    path = tmp_path / "memory.safetensors"
    optimized.save(path)
    _damage(path, CLUSTER_DAMAGES[damage])
    with pytest.raises(ValueError, match=r"memory\.safetensors: .*plan"):
        pyhue.PixelMemory.load(path)
