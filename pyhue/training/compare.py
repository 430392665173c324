"""The comparison of runs: accuracies with intervals, paired tests against the first run, budgets."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyhue._files.atomic import make_folder, write_atomically
from pyhue._files.tables import markdown, write_csv
from pyhue._runs.config import EXTENSIBLE
from pyhue._runs.results import Run, load_run
from pyhue._text import printable
from pyhue.training.compare_plot import comparison_png
from pyhue.training.compare_rows import Row, check_pairs, overlap, row_of
from pyhue.training.report import percent
from pyhue.training.statistics import Estimate

_SAME_PARAMETERS = 0.01  # relative; a hue layer adds less


class Comparison(NamedTuple):
    """What is told of runs."""

    text: str  #: that of `compare.md` without its picture
    rows: list[Row]  #: those of `compare.csv`


def compare(folders: Sequence[Path], out: Path) -> Comparison:
    """Compares finished runs, each with the first on the trainings that both have.

    Writes `compare.md`, `compare.csv` and `compare.png` into the folder `out`.

    Args:
        folders: of two or more runs.
        out: folder for the result; made where it is not there.

    Raises:
        ValueError: a folder is not that of a run or appears twice, a run has no result, two runs have no
            training in common, or trained or measured on different images.
        OSError: something cannot be read or written.
    """
    if len(folders) < 2:
        raise ValueError(f"runs: expected at least 2 to compare, got {len(folders)}")
    runs = [load_run(folder) for folder in folders]
    names = _names(folders)
    for run in runs:
        if not run.results:
            raise ValueError(f"{printable(run.folder)}: no training is finished yet")
    for run in runs[1:]:
        check_pairs(runs[0], run)
    rows = [row_of(name, runs[0], run) for name, run in zip(names, runs, strict=True)]
    text = "\n".join([_table(rows), "", *_notes(names, runs), "", _differences(names, runs)])
    make_folder(out)
    write_csv(out / "compare.csv", Row._fields, rows)
    write_atomically(out / "compare.png", comparison_png(rows))
    write_atomically(
        out / "compare.md", f"# Comparison\n\n{text}\n\n![Accuracies and differences](compare.png)\n"
    )
    return Comparison(text, rows)


def _names(folders: Sequence[Path]) -> list[str]:
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ValueError("runs: the same folder appears twice")
    short = [printable(path.name) for path in resolved]
    return short if len(set(short)) == len(short) else [printable(folder) for folder in folders]


def _table(rows: Sequence[Row]) -> str:
    head = ["run", "trainings", "accuracy", "minus the first", "p", "p corrected"]
    head += ["epochs", "steps", "parameters", "seconds"]
    lines = []
    for row in rows:
        accuracy = percent(Estimate(row.accuracy, row.margin, math.nan))
        lines.append([row.run, str(row.trainings), accuracy, _difference(row)])
        for p in (row.p_value, row.corrected_p_value):
            lines[-1].append("" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001")
        lines[-1] += [str(row.epochs), f"{row.steps:,}", f"{row.parameters:,}", f"{row.seconds:,.0f}"]
    return markdown(head, lines)


def _difference(row: Row) -> str:
    if not row.pairs:
        return ""
    margin = "" if math.isnan(row.corrected_margin) else f" ± {100 * row.corrected_margin:.2f}"
    return f"{100 * row.difference:+.2f}{margin}"


def _notes(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    notes = [
        "Accuracy: mean and 95 % interval of Student's t over folds and seeds. Minus the first: "
        "percentage points, mean over the trainings that both runs have, its interval corrected for folds "
        "that share training images (Nadeau and Bengio, 2003). p: paired t test, which takes folds for "
        "independent; p corrected: with the same correction. Intervals and p values are not adjusted for "
        "the number of runs compared.",
    ]
    if all(overlap(run) == 0 for run in runs):
        notes.append("The data are divided once: intervals cover the seeds, not the choice of images.")
    first = runs[0]
    for name, run in zip(names[1:], runs[1:], strict=True):
        if run.results.keys() != first.results.keys():
            both = len(first.results.keys() & run.results.keys())
            notes.append(f"{name}: {both} of {len(run.results)} trainings have a pair in {names[0]}.")
        unequal = _budget_differences(first, run)
        if unequal:
            notes.append(f"Warning: {name} and {names[0]} had different budgets: {', '.join(unequal)}.")
    return [line for note in notes for line in (textwrap.fill(note, 110), "")][:-1]


def _budget_differences(first: Run, run: Run) -> list[str]:
    """In what the cost of two runs differs, apart from chance and from the few weights of a hue layer."""
    found = [
        f"{name} {getattr(run.config, name)} against {getattr(first.config, name)}"
        for name in ("backbone", "layer", "image_size", "epochs", "augment", "pretrained", "weights")
        if getattr(run.config, name) != getattr(first.config, name)
    ]
    key = min(first.results.keys() & run.results.keys())
    a, b = first.results[key], run.results[key]
    if a.steps != b.steps:
        found.append(f"steps {b.steps} against {a.steps}")
    if abs(a.parameters - b.parameters) > _SAME_PARAMETERS * a.parameters:
        found.append(f"parameters {b.parameters} against {a.parameters}")
    return found


def _differences(names: Sequence[str], runs: Sequence[Run]) -> str:
    """A table of the options in which the runs differ."""
    options = [field.name for field in dataclasses.fields(runs[0].config) if field.name not in EXTENSIBLE]
    different = [name for name in options if len({getattr(run.config, name) for run in runs}) > 1]
    if not different:
        return "The options of the runs do not differ."
    lines = []
    for name, run in zip(names, runs, strict=True):
        values = (getattr(run.config, option) for option in different)
        lines.append([name, *("" if value is None else str(value) for value in values)])
    return markdown(["run", *different], lines)
