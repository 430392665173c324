"""Names as text, and numbers as JSON has them.

What a file system has may be no UTF-8, break a line or steer a terminal; what a plot shows may look like
mathematics.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

#: What ends a line or steers a terminal, and what Python has for bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(name: str | Path) -> str:
    r"""A file name on one line of UTF-8: control characters as `\n` or `\x1b`, other bytes as `\udc..`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))


def utf8(name: str) -> str:
    r"""A file name that can be written as UTF-8, otherwise as it is: bytes that are not as `\udc..`."""
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
        return utf8(str(value))
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
