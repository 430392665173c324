"""The picture of a comparison of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyhue._figures import BLUE, INK, RED, draw_grid, to_png
from pyhue._text import for_plot
from pyhue.training.compare_rows import Row


def comparison_png(rows: Sequence[Row]) -> bytes:
    """Left the accuracy of each run, right its difference from the first, both with 95 % intervals."""
    names = [for_plot(row.run) for row in rows]
    width = max(len(row.run) for row in rows) * 0.075
    figure = Figure(figsize=(9 + width, 1.6 + 0.42 * len(rows)), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, [(100 * row.accuracy, 100 * row.margin) for row in rows], BLUE)
    differences = [(100 * row.difference, 100 * row.corrected_margin) for row in rows]
    _draw(right, [(math.nan, math.nan), *differences[1:]], RED)  # of the first there is only the line
    left.set_yticks(range(len(rows)), names)
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.set_xlabel("accuracy in %, 95 % interval over folds and seeds")
    right.set_xlabel(f"accuracy minus that of {names[0]}, percentage points,\ncorrected 95 % interval")
    right.axvline(0, color=INK, linewidth=1)
    return to_png(figure)


def _draw(axes: Axes, values: Sequence[tuple[float, float]], color: str) -> None:
    for place, (mean, margin) in enumerate(values):
        spread = None if math.isnan(margin) else margin
        axes.errorbar(mean, place, xerr=spread, fmt="o", color=color, capsize=4, linewidth=1.8)
    draw_grid(axes, "x")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
