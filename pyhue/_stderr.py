"""Progress and notes on stderr, which may be missing (a service, pythonw) or closed: no reason to fail."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


class _Stderr:
    """The stderr of the moment; what it cannot do is left undone."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return sys.stderr.isatty()
        return False

    def __getattr__(self, name: str) -> Any:  # encoding, fileno: tqdm asks for them, and can do without
        return getattr(sys.stderr, name)


def progress_bar(
    items: Iterable[Any] | None = None,
    desc: str = "",
    total: int | None = None,
    disable: bool | None = None,
    **options: Any,
) -> tqdm[Any]:
    """A bar of tqdm on stderr, on a terminal only unless `disable` is False; `options` are tqdm's.

    In a notebook, which has no terminal, tqdm's own bar for notebooks.
    """
    if _in_notebook():
        from tqdm.auto import tqdm as notebook_tqdm  # slow to import

        return notebook_tqdm(items, desc, total, disable=bool(disable), dynamic_ncols=True, **options)
    return tqdm(items, desc, total, file=_Stderr(), disable=disable, dynamic_ncols=True, **options)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


def on_terminal() -> bool:
    """Whether people watch stderr."""
    return _Stderr().isatty()


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=_Stderr())
