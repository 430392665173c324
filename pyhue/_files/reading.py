"""Files that may be damaged, foreign or written by hand: whatever is wrong with one, the error names it."""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pyhue._text import printable

_LARGEST = 2**63  # integers beyond are no count of anything


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Whatever goes wrong with the content of a file becomes a ValueError, "PATH: not WHAT: why".

    What its parser raises depends on the damage. An OSError that names a file passes.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(f"{printable(os.fsdecode(path))}: not {what}: {why}") from error


def fits(value: Any, hint: Any) -> bool:
    """Whether a value that JSON, say, gave is of the type that a field is declared with.

    Args:
        value: the value.
        hint: a class, `X | None`, `list[X]`, or `tuple[X, ...]`, which a list fits, too. An int fits float,
            a bool neither.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(part, parts[0]) for part in value)
    if hint is float:
        return isinstance(value, float) or fits(value, int)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    return isinstance(value, hint)


def require_fit(values: dict[str, Any], hints: dict[str, Any]) -> None:
    """Raises ValueError that names the first value whose type is another than its hint."""
    for name, hint in hints.items():
        if not fits(values[name], hint):
            kind = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
            raise ValueError(f"{name}: expected {kind}, got {values[name]!r:.100}")
