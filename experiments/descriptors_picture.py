"""Networks x descriptors in one picture: the shape of the paper's figure 4.

    python experiments/descriptors_picture.py int8=loo-int8.jsonl float32=loo-float32.jsonl \\
        --images 3969 --out picture.png

from the results of `leave_one_out.py`. A dashed line is the best of a network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import units
from matplotlib.figure import Figure

from pyhue._figures import BLUE, GREEN, INK, ORANGE, RED, draw_grid, to_png
from pyhue._files.atomic import write_atomically


def accuracies(path: Path, images: int) -> dict[str, float]:
    """By descriptor."""
    wrong: dict[str, int] = {}
    for key, result in units.results(path).items():
        name = key.rpartition(" ")[0]
        wrong[name] = wrong.get(name, 0) + len(result["wrong"])
    return {name: 1 - count / images for name, count in wrong.items()}


def main() -> None:
    """Draws it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    draw_grid(axes, "y")
    pairs = [text.partition("=")[::2] for text in options.results]
    for number, ((name, file), color) in enumerate(zip(pairs, (BLUE, RED, GREEN, ORANGE), strict=False)):
        found = accuracies(Path(file), options.images)
        values = np.array(list(found.values()))
        errors = 1.96 * np.sqrt(values * (1 - values) / options.images)
        places = np.arange(len(values)) + 0.16 * (number - (len(pairs) - 1) / 2)
        axes.errorbar(places, values, errors, fmt="o", markersize=5, color=color, label=name, linewidth=1.2)
        axes.axhline(values.max(), color=color, linestyle="--", linewidth=1)
        axes.set_xticks(range(len(found)), list(found))
    axes.set_ylabel("accuracy", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title("Each image by its neighbours among all others, k = 10", fontsize=11)
    write_atomically(options.out, to_png(figure))


if __name__ == "__main__":
    main()
