"""`pyhue compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyhue._cli.common import Commands, add_command, require, show
from pyhue._text import printable


def add_parser(commands: Commands) -> None:
    """Declares the command and its options."""
    parser = add_command(commands, "compare", "compare runs of pyhue train by accuracy, with paired tests")
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folders of runs; each is compared with the first"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("compare-output"), metavar="DIR", help="where table and plot go"
    )


def run(options: argparse.Namespace) -> int:
    """Compares, and prints the table."""
    require("sklearn", "matplotlib")
    from pyhue.training.compare import compare

    found = compare(options.runs, options.out)
    text = f"{found.text}\n\ntable and plot: {printable(options.out)}"
    show(options, text, {"runs": found.rows, "out": options.out})
    return 0
