"""The tables of `pyhue descriptors`."""

from __future__ import annotations

import csv
import io

import numpy as np

from pyhue.descriptors._rivals import Rival
from pyhue.descriptors.evaluate import Result


def as_markdown(results: list[Result], rivals: list[Rival], missing: list[str]) -> str:
    """Both tables, to be printed and kept."""
    lines = [
        "| descriptor | accuracy | difference to pixels | dimension | bytes an image | images/s | search |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        gain, error = result.difference(results[0])
        against = "" if result is results[0] else f"{gain:+.4f} ± {error:.4f}"
        lines.append(
            f"| {result.name} | {result.accuracy:.4f} ± {result.error:.4f} | {against} | {result.dim:,} | "
            f"{result.bytes_per_image:,} | {_rate(result.rate)} | {result.search} |"
        )
    if rivals:
        lines += [
            "",
            f"Pixel vectors of the first fold ({len(rivals[0].correct):,} images):",
            "",
            "| index | accuracy | recall | images/s | build, s |",
            "|---|---|---|---|---|",
        ]
    for rival in rivals:
        accuracy = rival.correct.mean()
        error = np.sqrt(accuracy * (1 - accuracy) / len(rival.correct))
        lines.append(
            f"| {rival.name} | {accuracy:.4f} ± {error:.4f} | {rival.recall:.3f} | {_rate(rival.rate)} | "
            f"{rival.build:.1f} |"
        )
    if missing:
        lines += ["", f"Not installed, left out: {', '.join(missing)}."]
    return "\n".join([*lines, "", "± is one standard error."])


def as_csv(results: list[Result]) -> str:
    """The table of descriptors with all digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ("accuracy", "standard_error", "difference", "difference_error")
    writer.writerow(["descriptor", *columns, "dim", "bytes_per_image", "images_per_second", "search"])
    for result in results:
        numbers = (result.accuracy, result.error, *result.difference(results[0]))
        writer.writerow(
            [result.name, *numbers, result.dim, result.bytes_per_image, result.rate, result.search]
        )
    return buffer.getvalue()


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
