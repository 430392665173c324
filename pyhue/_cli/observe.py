"""`pyhue observe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyhue._arrays import positive_integer
from pyhue._cli.common import Commands, add_command, require, show
from pyhue._cli.data import add_image_options, features_of
from pyhue._text import printable


def add_parser(commands: Commands) -> None:
    """Declares the command and its options."""
    parser = add_command(
        commands,
        "observe",
        "where activations hold what tells classes apart: pictures and a report; resumes when run again",
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with one folder for each class, or a features file"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    parser.add_argument("-k", type=int, default=10, metavar="K", help="matches of each pixel vector")
    add_image_options(parser, needed=False)


def run(options: argparse.Namespace) -> int:
    """Writes the report and prints where it is."""
    require("matplotlib")
    k = positive_integer(options.k, "k")
    features = features_of(options, options.out)
    from pyhue.observe._report import write_report

    page, numbers = write_report(features, options.out, k)
    show(options, printable(page), {"report": page} | numbers)
    return 0
