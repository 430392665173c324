"""What several commands share: types of options, and saying what has to be installed."""

from __future__ import annotations

import argparse
import importlib.util
from typing import TypeAlias

#: What `argparse.ArgumentParser.add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: Modules that commands import beside pyhue's own requirements, and the packages that bring them.
_PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn"}


def add_command(commands: Commands, name: str, description: str) -> argparse.ArgumentParser:
    """A parser of the command `name` whose help shows `description` and every default."""
    return commands.add_parser(
        name,
        help=description,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def require(*modules: str) -> None:
    """Raises ImportError, which says what to install, unless all modules can be found."""
    missing = [_PACKAGES.get(module, module) for module in modules if not importlib.util.find_spec(module)]
    if missing:
        raise ImportError(f"needs {', '.join(missing)}; install with: pip install {' '.join(missing)}")


def count(text: str) -> int:
    """An option's value: an integer from 0 to 2**32 - 1."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**32 - 1, got {text}")
    return value
