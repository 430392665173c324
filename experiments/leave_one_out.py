"""Descriptors, each image classified by all others: one memory, from which a query leaves out its own image.

    python experiments/leave_one_out.py int8.safetensors --out loo-int8.jsonl
    python experiments/leave_one_out.py int8.safetensors --out loo-int8.jsonl --table

The counterpart of `pyhue descriptors` without folds, through `exclude=`. VLAD's vocabulary, which would have
to be learned anew for each image, is left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import units
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

import pyhue
from pyhue.descriptors import average, flatten, gem, maximum, rmac
from pyhue.descriptors._vote import directed
from pyhue.pixel_vectors import pixel_vectors

K, CHUNK = 10, 200
POOLS: dict[str, Callable[[NDArray[np.float16]], NDArray[np.float32]]] = {
    "flattened": flatten,
    "average": average,
    "GeM": gem,
    "maximum": maximum,
    "R-MAC": rmac,
}


def wrong(name: str, data: units.Activations, chunk: slice, cache: Path) -> list[int]:
    """Images of the chunk that are classified wrongly."""
    maps, labels = data
    if name == "flattened":
        predicted = by_scikit_learn(unit_maps(maps), labels, chunk)
    else:
        memory = stored(name, data, cache)
        asked = maps[chunk]
        vectors = pixel_vectors(asked) if name == "pixel vectors" else POOLS[name](asked)[:, None]
        predicted = memory.predict(vectors, K, exclude=np.arange(len(labels))[chunk])
    return (np.arange(len(labels))[chunk][predicted != labels[chunk]]).tolist()


def stored(name: str, data: units.Activations, cache: Path) -> pyhue.PixelMemory:
    """All images; packed once, however often the experiment is stopped."""
    path = cache / f"{name}.safetensors"
    if path.exists():
        return pyhue.PixelMemory.load(path)
    maps, labels = data
    memory = pyhue.PixelMemory(maps.shape[1])
    for at in range(0, len(maps), CHUNK):
        part = maps[at : at + CHUNK]
        vectors = pixel_vectors(part) if name == "pixel vectors" else POOLS[name](part)[:, None]
        memory.add(vectors, labels[at : at + CHUNK])
    memory.optimize()
    cache.mkdir(parents=True, exist_ok=True)
    memory.save(path)
    return memory


_unit: list[NDArray[np.float32]] = []  # made once


def unit_maps(maps: NDArray[np.float16]) -> NDArray[np.float32]:
    """Flattened maps at unit length."""
    if not _unit:
        rows, filled = directed(flatten(maps)[:, None])
        assert filled.all()
        _unit.append(rows)
    return _unit[0]


def by_scikit_learn(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], chunk: slice
) -> NDArray[np.int64]:
    """For unit vectors longer than a memory takes: the nearest but the image itself."""
    found = NearestNeighbors(algorithm="brute", metric="sqeuclidean").fit(vectors)
    distances, indices = found.kneighbors(vectors[chunk], K + 1)
    own = indices == np.arange(len(labels))[chunk][:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(own), 1, K)
    counts, mine = np.bincount(labels), labels[chunk]
    votes = pyhue.density(distances[~own].reshape(shape), labels[indices[~own]].reshape(shape), counts)
    votes[np.arange(len(own)), mine] += np.log(counts[mine] / (counts[mine] - 1))  # the image does not count
    return votes.argmax(axis=1)


def table(out: Path, images: int) -> str:
    """Markdown, of the descriptors that every image has been classified by."""
    by_name: dict[str, list[list[int]]] = {}
    for key, result in units.results(out).items():
        by_name.setdefault(key.rpartition(" ")[0], []).append(result["wrong"])
    right = {
        name: ~np.isin(np.arange(images), np.concatenate(some))
        for name, some in by_name.items()
        if len(some) == -(-images // CHUNK)
    }
    lines = ["| descriptor | accuracy | difference to the average |", "|---|---|---|"]
    for name, correct in right.items():
        gain = correct.astype(float) - right["average"]
        error = np.sqrt(correct.mean() * (1 - correct.mean()) / images)
        difference = f"{gain.mean():+.4f} ± {gain.std() / np.sqrt(images):.4f}"
        shown = "" if name == "average" else difference
        lines.append(f"| {name} | {correct.mean():.4f} ± {error:.4f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Does what is not done yet."""
    parser = units.parser(__doc__)
    parser.add_argument("--table", action="store_true", help="print the table of what is done")
    parser.add_argument("--cache", type=Path, help="folder of packed memories")
    options = parser.parse_args()
    data = units.load(options.activations)
    images = len(data.labels)
    if options.table:
        print(table(options.out, images))
        return
    cache = options.cache or Path(tempfile.mkdtemp())
    keys = [f"{name} {at}" for name in (*POOLS, "pixel vectors") for at in range(0, images, CHUNK)]

    def compute(key: str) -> dict[str, object]:
        name, _, at = key.rpartition(" ")
        return {"wrong": wrong(name, data, slice(int(at), int(at) + CHUNK), cache)}

    units.run(options.out, keys, compute, options.seconds)


if __name__ == "__main__":
    main()
