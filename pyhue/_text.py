"""Names as text: what a file system has may be no UTF-8, and what a plot shows may look like mathematics.

And numbers as JSON has them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def printable(name: str) -> str:
    r"""A file name that can be written as UTF-8: lone surrogates, Python's for other bytes, as `\udc..`."""
    return name.encode("utf-8", "backslashreplace").decode()


def for_plot(name: str) -> str:
    r"""A name for matplotlib, which takes what is between two `$` for mathematics and fails on surrogates."""
    return printable(name).replace("$", r"\$")


def jsonable(value: Any) -> Any:
    """NumPy's numbers as Python's, NaN and infinity as None, paths as text; named tuples as dictionaries."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: jsonable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(part) for part in value]
    if isinstance(value, Path):
        return printable(str(value))
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
