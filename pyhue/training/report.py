"""The report of a run: text, table and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pyhue._files.atomic import write_atomically
from pyhue._files.tables import markdown, write_csv
from pyhue._runs.results import CONFIG, Result, Run
from pyhue._text import printable
from pyhue.training.report_plot import curves_png
from pyhue.training.statistics import Estimate, estimate

REPORT, CURVES, TABLE = "report.md", "curves.png", "results.csv"


def write_report(run: Run, expected: int, skipped: Sequence[tuple[Path, str]]) -> None:
    """Writes `report.md`, `curves.png` and `results.csv` into the folder of a run.

    Args:
        run: the run, with at least one result.
        expected: how many trainings it will have.
        skipped: files that could not be read.
    """
    write_csv(run.folder / TABLE, Result._fields, run.results.values())
    write_atomically(run.folder / CURVES, curves_png(run))
    config = run.config
    lines = [
        f"# {printable(run.folder.resolve().name)}",
        "",
        *summary(run, expected, skipped).splitlines(),
        "",
        markdown(
            ["seed", "fold", "accuracy", "cross-entropy", "training accuracy", "training loss", "images"],
            [_row(result) for result in run.results.values()],
        ),
        "",
        "Training accuracy and loss: over the last epoch, on augmented images, while the network changed.",
        "",
        f"![Loss and accuracy by epoch]({CURVES})",
        "",
        f"Data `{printable(config.data)}`, backbone `{config.backbone}`, {config.image_size} pixels, loss "
        f"`{config.loss}`, {config.epochs} epochs; all options are in [{CONFIG}]({CONFIG}).",
        "",
    ]
    write_atomically(run.folder / REPORT, "\n".join(lines))


def summary(run: Run, expected: int, skipped: Sequence[tuple[Path, str]]) -> str:
    """The report in a few lines, for the terminal."""
    results = list(run.results.values())
    first = results[0]
    accuracy = estimate([result.accuracy for result in results])
    lines = [
        f"accuracy ({first.measured_on}) {percent(accuracy)}, {len(results)} of {expected} trainings",
        f"{first.parameters:,} parameters, {first.steps:,} steps, "
        f"{math.fsum(result.seconds for result in results) / 60:.1f} minutes of training",
    ]
    if skipped:
        path, reason = printable(skipped[0][0]), printable(skipped[0][1])
        lines.append(f"{len(skipped)} files skipped that cannot be read, the first: {path} ({reason})")
    return "\n".join([*lines, f"report: {printable(run.folder / REPORT)}"])


def percent(value: Estimate) -> str:
    """A mean and its 95 % interval, in percent."""
    margin = "" if math.isnan(value.margin) else f" ± {100 * value.margin:.2f}"
    return f"{100 * value.mean:.2f}{margin} %"


def _row(result: Result) -> list[str]:
    return [
        str(result.seed),
        str(result.fold),
        f"{result.accuracy:.2%}",
        f"{result.loss:.4f}",
        f"{result.train_accuracy:.2%}",
        f"{result.train_loss:.4f}",
        f"{result.images:,}",
    ]
