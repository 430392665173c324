"""The `pyhue` command."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import pyhue

#: What `pyhue demo` imports beside pyhue's own requirements, and what to install for it.
_DEMO_NEEDS = {"torch": "torch", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with `arguments`, by default the process's; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _demo(options) if options.command == "demo" else _info()
    except (ImportError, OSError) as error:
        return _fail(options.command, str(error))
    except KeyboardInterrupt:
        return _fail(options.command, "interrupted", status=130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyhue", description=pyhue.__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"pyhue {pyhue.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("info", help="print versions, instruction set, threads and what was built in")
    demo = commands.add_parser(
        "demo",
        help="train on handwritten digits with the hue loss, classify by density, draw a picture",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="where the picture goes"
    )
    demo.add_argument("--seed", type=_count, default=0, metavar="N", help="the same seed, the same run")
    demo.add_argument("--epochs", type=_count, default=20, metavar="N", help="passes over the images")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**32 - 1, got {text}")
    return value


def _info() -> int:
    pyhue.show_config()
    return 0


def _demo(options: argparse.Namespace) -> int:
    missing = [package for module, package in _DEMO_NEEDS.items() if not importlib.util.find_spec(module)]
    if missing:
        packages = " ".join(missing)
        return _fail("demo", f"needs {', '.join(missing)}; install with: pip install {packages}")
    from pyhue import _demo

    print(_demo.run(options.out, seed=options.seed, epochs=options.epochs))
    return 0


def _fail(command: str, message: str, status: int = 1) -> int:
    print(f"pyhue {command}: {' '.join(message.split())}", file=sys.stderr)
    return status
