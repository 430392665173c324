"""What principal components and bfloat16 cost in accuracy, bytes and speed.

    python experiments/compression.py int8.safetensors --out compression-int8.jsonl
    python experiments/compression.py int8.safetensors --out compression-int8.jsonl --table
    python experiments/compression.py int8.safetensors --out compression-int8.jsonl --speed

Pixel vectors, the flattened map and the average, at 32 to 1,280 dimensions, in five stratified folds;
components are learned from each fold's memory. "cut" compares projections as they are, whose distances
approach those of the vectors; otherwise they are scaled to unit length again, as `pyhue descriptors --pca`
does. `--speed` times the first fold.
"""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
import units
from numpy.typing import NDArray

import pyhue
from pyhue.descriptors import Principal, average, flatten
from pyhue.descriptors.evaluate import classify
from pyhue.images import stratified_folds
from pyhue.pixel_vectors import pixel_vectors
from pyhue.vector_memory import MAX_DIM

K, FOLDS = 10, 5
DIMS = (32, 64, 128, 256, 512, 1280)
FLATTENED = (32, 64, 128, 256, 512)
VARIANTS = (
    [("pixel vectors", 0, "float32"), ("pixel vectors", 0, "bfloat16")]
    + [("pixel vectors", dims, "float32") for dims in DIMS]
    + [("pixel vectors", dims, "cut") for dims in DIMS[:-1]]
    + [("pixel vectors", 128, "bfloat16")]
    + [("average", 0, "float32")]
    + [("average", dims, "float32") for dims in DIMS]
    + [("flattened", dims, "float32") for dims in (0, *FLATTENED)]
)


class Experiment:
    """Activations, their folds, and the components of the fold at hand."""

    def __init__(self, data: units.Activations) -> None:
        self.maps, self.labels = data
        self.folds = stratified_folds(self.labels, FOLDS, 0)
        self.components = lru_cache(1)(self._components)

    def vectors(self, kind: str, part: NDArray[np.int64]) -> NDArray[np.floating]:
        """(images, vectors, dim)."""
        maps = self.maps[part]
        if kind == "pixel vectors":
            return pixel_vectors(maps)
        pool = {"average": average, "flattened": flatten}[kind]
        return np.concatenate([pool(maps[at : at + 256]) for at in range(0, len(maps), 256)])[:, None]

    def _components(self, kind: str, fold: int) -> Principal:
        stored = self.vectors(kind, self.folds[fold][0])
        return Principal(stored, min(max(FLATTENED) if kind == "flattened" else max(DIMS), stored.shape[2]))

    def parts(self, kind: str, dims: int, fold: int) -> list[NDArray[np.floating]]:
        """Vectors of the memory and of the queries; `dims` 0 is all channels."""
        parts = [self.vectors(kind, part) for part in self.folds[fold]]
        if not dims:
            return parts
        components = self.components(kind, fold)
        return [components(part)[:, :, :dims] for part in parts]

    def memory(self, stored: NDArray[np.floating], fold: int, form: str) -> pyhue.PixelMemory:
        """A memory of the fold's vectors."""
        dtype = "bfloat16" if form == "bfloat16" else "float32"
        memory = pyhue.PixelMemory(stored.shape[2], normalize=form != "cut", dtype=dtype)
        memory.add(stored, self.labels[self.folds[fold][0]])
        memory.optimize()
        return memory

    def unit(self, key: str) -> dict[str, object]:
        """Queries of one fold that are classified wrongly."""
        kind, dims, form, fold = key.split("/")
        stored, asked = self.parts(kind, int(dims), int(fold))
        memory, queries = self.folds[int(fold)]
        if stored.shape[2] > MAX_DIM:
            predicted, _ = classify(stored, self.labels[memory], asked, K)
        else:
            predicted = self.memory(stored, int(fold), form).predict(asked, K)
        return {"wrong": queries[predicted != self.labels[queries]].tolist(), "shape": stored.shape[1:]}

    def speed(self, key: str, seconds: float) -> dict[str, float]:
        """Images a second of the first fold: many at once, and one; and what is held."""
        kind, dims, form = key.split("/")
        stored, asked = self.parts(kind, int(dims), 0)
        begin = time.perf_counter()
        memory = self.memory(stored, 0, form)
        built = time.perf_counter() - begin
        rates = []
        for batch in (asked[:64], asked[:1]):
            memory.predict(batch, K)
            times: list[float] = []
            while sum(times) < seconds or len(times) < 3:
                begin = time.perf_counter()
                memory.predict(batch, K)
                times.append(time.perf_counter() - begin)
            rates.append(len(batch) / float(np.median(times)))
        held = memory.explain()["bytes_per_vector"] * stored.shape[1]
        return {"many": rates[0], "one": rates[1], "built": built, "bytes an image": held}


def table(results: dict[str, dict], experiment: Experiment) -> str:
    """Markdown; each kind of vectors on the folds that all of its variants have."""
    lines = [
        "| vectors | dimensions | stored as | accuracy | difference | bytes an image | images |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(kind for kind, _, _ in VARIANTS):
        begun = [
            f"{kind}/{dims}/{form}"
            for this, dims, form in VARIANTS
            if this == kind and any(key.startswith(f"{kind}/{dims}/{form}/") for key in results)
        ]
        folds = [fold for fold in range(FOLDS) if all(f"{key}/{fold}" in results for key in begun)]
        if not folds:
            continue
        queries = np.concatenate([experiment.folds[fold][1] for fold in folds])
        first: NDArray[np.float64] | None = None
        for key in begun:
            wrong = [image for fold in folds for image in results[f"{key}/{fold}"]["wrong"]]
            correct = (~np.isin(queries, wrong)).astype(float)
            first = correct if first is None else first
            gains = correct - first
            vectors, dim = results[f"{key}/{folds[0]}"]["shape"]
            error = np.sqrt(correct.mean() * (1 - correct.mean()) / len(queries))
            difference = f"{gains.mean():+.4f} ± {gains.std() / np.sqrt(len(gains)):.4f}"
            form = key.rpartition("/")[2]
            size = vectors * dim * (2 if form == "bfloat16" else 4)
            name = f"{kind}, components" if key.split("/")[1] != "0" else kind
            shown = "" if correct is first else difference
            lines.append(
                f"| {name} | {dim:,} | {form} | {correct.mean():.4f} ± {error:.4f} | {shown} | {size:,} "
                f"| {len(queries):,} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Does what is not done yet."""
    parser = units.parser(__doc__)
    parser.add_argument("--table", action="store_true", help="print the table of what is done")
    parser.add_argument("--speed", nargs="*", metavar="KIND/DIMS/FORM", help="time these; none: all")
    parser.add_argument("--folds-run", type=int, default=FOLDS, help="only the first of the five folds")
    parser.add_argument("--only", default="", help="units whose keys begin so")
    options = parser.parse_args()
    experiment = Experiment(units.load(options.activations))
    if options.table:
        print(table(units.results(options.out), experiment))
        return
    if options.speed is not None:
        for key in options.speed or [f"{kind}/{dims}/{form}" for kind, dims, form in VARIANTS]:
            print(
                key, {name: round(value, 2) for name, value in experiment.speed(key, 2).items()}, flush=True
            )
        return
    # All variants of one kind and fold in turn: they share its components.
    kinds = dict.fromkeys(kind for kind, _, _ in VARIANTS)
    keys = [
        f"{kind}/{dims}/{form}/{fold}"
        for kind in kinds
        for fold in range(options.folds_run)
        for this, dims, form in sorted(VARIANTS)
        if this == kind
    ]
    units.run(
        options.out, [key for key in keys if key.startswith(options.only)], experiment.unit, options.seconds
    )


if __name__ == "__main__":
    main()
