"""The `pyhue` command: one file for each of its commands.

A command's module has `add_parser`, which declares its options, and `run`, which imports what it needs, does
the work, prints the result and returns the exit status. Errors that a user can cause are raised as
ImportError, OSError or ValueError; `main` turns them into one line.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import pyhue
from pyhue._cli import bench, compare, demo, descriptors, features, info, memory, observe, train
from pyhue._cli.completion import PrintCompletion
from pyhue._stderr import say
from pyhue._text import printable

_COMMANDS = {
    "info": info,
    "demo": demo,
    "train": train,
    "compare": compare,
    "features": features,
    "observe": observe,
    "descriptors": descriptors,
    "memory": memory,
    "bench": bench,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with `arguments`, by default the process's; returns the exit status."""
    _escape()
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # of files that it reads; they name none
            status: int = _COMMANDS[options.command].run(options)
        return status
    except (ImportError, MemoryError, OSError, ValueError) as error:
        return _fail(options.command, str(error) or type(error).__name__)
    except KeyboardInterrupt:
        return _fail(options.command, "interrupted", status=130)


def parser() -> argparse.ArgumentParser:
    """What takes the arguments of all commands."""
    whole = argparse.ArgumentParser(prog="pyhue", description=pyhue.__doc__.splitlines()[0])
    whole.add_argument("--version", action="version", version=f"pyhue {pyhue.__version__}")
    whole.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh"),
        help="print what the shell completes by; needs shtab",
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    for command in _COMMANDS.values():
        command.add_parser(commands)
    return whole


def _escape() -> None:
    """What output has no character for, in the name of a file perhaps, is escaped, no reason to fail."""
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(AttributeError, ValueError):  # there is none, or it is closed
            stream.reconfigure(errors="backslashreplace")


def _fail(command: str, message: str, status: int = 1) -> int:
    line = printable(f"pyhue {command}: {' '.join(message.split())}")
    if sys.stderr is None:
        print(line)
    else:
        say(line)
    return status
