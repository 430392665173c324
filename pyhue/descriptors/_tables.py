"""The tables of `pyhue descriptors`."""

from __future__ import annotations

import numpy as np

from pyhue._files.tables import markdown
from pyhue.descriptors._rivals import Rival
from pyhue.descriptors.evaluate import Result


def as_text(results: list[Result], rivals: list[Rival], missing: list[str]) -> str:
    """Both tables, to be printed and kept."""
    head = ["descriptor", "accuracy", "difference to pixels", "dimension"]
    head += ["bytes an image", "images/s", "search"]
    parts = [markdown(head, [_descriptor(result, results[0]) for result in results])]
    if rivals:
        parts.append(f"Pixel vectors of the first fold ({len(rivals[0].correct):,} images):")
        head = ["index", "accuracy", "recall", "images/s", "build, s"]
        parts.append(markdown(head, [_index(rival) for rival in rivals]))
    if missing:
        parts.append(f"Not installed, left out: {', '.join(missing)}.")
    return "\n\n".join([*parts, "± is one standard error."])


def columns(results: list[Result]) -> tuple[list[str], list[list[object]]]:
    """Names and rows of the table of descriptors with all digits."""
    head = ["descriptor", "accuracy", "standard_error", "difference", "difference_error"]
    head += ["dim", "bytes_per_image", "images_per_second", "search"]
    rows: list[list[object]] = []
    for result in results:
        numbers = (result.accuracy, result.error, *result.difference(results[0]))
        rows.append([result.name, *numbers, result.dim, result.bytes_per_image, result.rate, result.search])
    return head, rows


def _descriptor(result: Result, first: Result) -> list[str]:
    gain, error = result.difference(first)
    return [
        result.name,
        f"{result.accuracy:.4f} ± {result.error:.4f}",
        "" if result is first else f"{gain:+.4f} ± {error:.4f}",
        f"{result.dim:,}",
        f"{result.bytes_per_image:,}",
        _rate(result.rate),
        result.search,
    ]


def _index(rival: Rival) -> list[str]:
    accuracy = rival.correct.mean()
    error = np.sqrt(accuracy * (1 - accuracy) / len(rival.correct))
    numbers = [
        f"{accuracy:.4f} ± {error:.4f}",
        f"{rival.recall:.3f}",
        _rate(rival.rate),
        f"{rival.build:.1f}",
    ]
    return [rival.name, *numbers]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
