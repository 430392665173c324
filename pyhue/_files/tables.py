"""Tables as files and as text."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pyhue._files.atomic import write_atomically


def write_csv(path: str | os.PathLike[str], head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a line of names and the rows; numbers in full, None as nothing.

    The file is written anew and atomically, so it never holds half a line.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    write_atomically(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, float]]:
    """Reads numbers that `write_csv` wrote; empty fields are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, in columns of equal width for those who read it as text.

    Example:
        >>> print(markdown(["run", "accuracy"], [["hue", "0.9"]]))
        | run | accuracy |
        | --- | -------- |
        | hue | 0.9      |
    """
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    padded = [" | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (padded[0], rule, *padded[1:]))
