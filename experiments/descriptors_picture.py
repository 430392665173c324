"""Networks x descriptors in one picture: the shape of the paper's figure 4.

    python experiments/descriptors_picture.py int8=descriptors-int8/descriptors.csv \\
        float32=descriptors-float32/descriptors.csv --out descriptors.png

from the tables of `pyhue descriptors`. Bars are 95 % intervals; a dashed line is the best of a network.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pyhue._figures import BLUE, GREEN, ORANGE, RED, draw_grid, to_png
from pyhue._files.atomic import write_atomically


def read(path: Path) -> dict[str, tuple[float, float]]:
    """Accuracy and its standard error, by descriptor."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["descriptor"]: (float(row["accuracy"]), float(row["standard_error"])) for row in rows}


def main() -> None:
    """Draws it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    draw_grid(axes, "y")
    pairs = [text.partition("=")[::2] for text in options.tables]
    for number, ((name, file), color) in enumerate(zip(pairs, (BLUE, RED, GREEN, ORANGE), strict=False)):
        found = read(Path(file))
        accuracies, errors = np.array(list(found.values())).T
        places = np.arange(len(found)) + 0.16 * (number - (len(pairs) - 1) / 2)
        axes.errorbar(
            places, accuracies, 1.96 * errors, fmt="o", markersize=5, color=color, label=name, linewidth=1.2
        )
        axes.axhline(accuracies.max(), color=color, linestyle="--", linewidth=1)
        axes.set_xticks(range(len(found)), list(found))
    axes.set_ylabel("accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    write_atomically(options.out, to_png(figure))


if __name__ == "__main__":
    main()
