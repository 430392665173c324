"""The curves of a run."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pyhue._figures import BLUE, INK, ORANGE, RED, draw_grid, to_png
from pyhue._runs.results import Run
from pyhue._text import for_plot
from pyhue.training.statistics import estimate

TRAIN, VAL, TEST = BLUE, ORANGE, RED


def curves_png(run: Run) -> bytes:
    """Loss and accuracy by epoch: every training thin, their mean thick; the final accuracies as points."""
    figure = Figure(figsize=(11, 4.2), facecolor="white", layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        minimised, measured = (", minimised", ", cross-entropy") if quantity == "loss" else ("", "")
        _draw_curves(axes, run, f"train_{quantity}", "training" + minimised, TRAIN)
        _draw_curves(axes, run, f"val_{quantity}", "validation" + measured, VAL)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, run.config.epochs + 0.5)
        draw_grid(axes)
        axes.spines[["top", "right"]].set_visible(False)
    _draw_final(accuracy, run)
    loss.set_ylabel("loss (natural logarithm)")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("accuracy")
    accuracy.set_ylim(0, 1.02)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    loss.legend(frameon=False)
    accuracy.legend(frameon=False, loc="best")
    count = len(run.results)
    trainings = "1 training" if count == 1 else f"mean of {count} trainings, each of them thin"
    name = for_plot(run.folder.resolve().name)
    figure.suptitle(f"{name}: {run.config.loss}, {trainings}", color=INK, fontsize=12)
    return to_png(figure)


def _draw_curves(axes: Axes, run: Run, column: str, label: str, color: str) -> None:
    lines = [[row.get(column, math.nan) for row in curve] for curve in run.curves.values()]
    if np.isnan(lines[0]).all():
        return
    epochs = np.arange(1, len(lines[0]) + 1)
    for line in lines if len(lines) > 1 else []:
        axes.plot(epochs, line, color=color, linewidth=0.8, alpha=0.35)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, np.mean(lines, axis=0), color=color, linewidth=2, marker=marker, label=label)


def _draw_final(axes: Axes, run: Run) -> None:
    results = list(run.results.values())
    values = [result.accuracy for result in results]
    final = estimate(values)
    margin = "" if math.isnan(final.margin) else f" ± {100 * final.margin:.1f}"
    label = f"{results[0].measured_on}, at the end: {100 * final.mean:.1f}{margin} %"
    axes.axhline(final.mean, color=TEST, linewidth=1.2, linestyle=(0, (4, 3)), label=label)
    axes.plot([result.epochs for result in results], values, "o", color=TEST, markersize=5, alpha=0.7)
