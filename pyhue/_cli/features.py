"""`pyhue features`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyhue._cli.common import Commands, add_command, show
from pyhue._cli.data import add_image_options, extract
from pyhue._text import printable


def add_parser(commands: Commands) -> None:
    """Declares the command and its options."""
    parser = add_command(
        commands, "features", "write a network's activations of a folder of images; resumes when run again"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with one folder for each class")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    add_image_options(parser, needed=True)


def run(options: argparse.Namespace) -> int:
    """Writes the file and prints what is in it."""
    features = extract(options, options.out)
    images, channels, height, width = features.activations.shape
    size = options.out.stat().st_size
    text = (
        f"{images:,} images of {len(features.classes)} classes, {channels} x {height} x {width} activations "
        f"at {features.source['image_size']} pixels\n{printable(options.out)}: {size / 1e6:,.0f} MB"
    )
    values = {"images": images, "classes": len(features.classes), "channels": channels, "height": height}
    values |= {"width": width, "source": features.source, "out": options.out, "bytes": size}
    show(options, text, values)
    return 0
