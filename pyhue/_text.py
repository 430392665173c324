"""Names as text: what a file system has may be no UTF-8, and what a plot shows may look like mathematics."""

from __future__ import annotations


def printable(name: str) -> str:
    r"""A file name that can be written as UTF-8: lone surrogates, Python's for other bytes, as `\udc..`."""
    return name.encode("utf-8", "backslashreplace").decode()


def unmathematical(name: str) -> str:
    r"""A name for matplotlib, which would take what is between two `$` for mathematics."""
    return name.replace("$", r"\$")
