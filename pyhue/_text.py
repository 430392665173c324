"""Names as text: what a file system has may be no UTF-8, and what a plot shows may look like mathematics."""

from __future__ import annotations


def printable(name: str) -> str:
    r"""A file name that can be written as UTF-8: lone surrogates, Python's for other bytes, as `\udc..`."""
    return name.encode("utf-8", "backslashreplace").decode()


def for_plot(name: str) -> str:
    r"""A name for matplotlib, which takes what is between two `$` for mathematics and fails on surrogates."""
    return printable(name).replace("$", r"\$")
