"""`pyhue bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyhue._arrays import positive_integer
from pyhue._cli.common import Commands, add_command, show
from pyhue._cli.data import read_features


def add_parser(commands: Commands) -> None:
    """Declares the command and its options."""
    parser = add_command(commands, "bench", "time exact search of your own activations beside FAISS")
    parser.add_argument("features", type=Path, metavar="FEATURES", help="file of pyhue features")
    parser.add_argument("-k", type=int, default=10, metavar="K", help="neighbours of each pixel vector")
    parser.add_argument("--images", type=int, default=10, metavar="N", help="images that are asked")


def run(options: argparse.Namespace) -> int:
    """Prints a table in Markdown."""
    k, images = positive_integer(options.k, "k"), positive_integer(options.images, "images")
    from pyhue._bench import bench

    found = bench(read_features(options.features), images, k)
    show(options, str(found), found)
    return 0
