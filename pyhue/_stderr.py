"""Progress and notes on stderr, which may be missing (a service, pythonw) or closed: no reason to fail."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from pyhue._text import printable


class _Stderr:
    """The stderr of the moment it is made in; what that cannot do is left undone."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:  # encoding, fileno: tqdm asks for them, and can do without
        return getattr(self._stream, name)


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


@contextlib.contextmanager
def outputs_as_notes() -> Iterator[None]:
    """What others print meanwhile, on stdout too, goes where notes go."""
    stream: Any = _Stderr()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield


def say(text: str) -> None:
    """A line on stderr."""
    print(printable(text), file=_Stderr())
