"""What several commands share: types of options, and saying what has to be installed."""

from __future__ import annotations

import argparse
import importlib.util
import json
from typing import Any, TypeAlias

from pyhue._text import jsonable

#: What `argparse.ArgumentParser.add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: Modules that commands import beside pyhue's own requirements, and the packages that bring them.
_PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn"}


def add_command(
    commands: Commands, name: str, description: str, *, inner: bool = False
) -> argparse.ArgumentParser:
    """A parser of the command `name` whose help shows `description` and every default, with `--json`.

    `inner`: it is a command of a command, and `--json` may stand behind either.
    """
    parser = commands.add_parser(
        name,
        help=description,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = argparse.SUPPRESS if inner else False
    parser.add_argument("--json", action="store_true", default=default, help="print the result as JSON")
    return parser


def show(options: argparse.Namespace, text: str, values: Any) -> None:
    """Prints `text`, or with `--json` what it says as `values`."""
    print(json.dumps(jsonable(values), indent=2) if options.json else text)


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
