"""`pyhue demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyhue._cli.common import Commands, add_command, count, require, show

#: Modules that the demonstration imports beside pyhue's own requirements.
NEEDS = ("torch", "sklearn", "matplotlib")


def add_parser(commands: Commands) -> None:
    """Declares the command and its options."""
    parser = add_command(
        commands,
        "demo",
        "train on handwritten digits with the hue loss, classify by density, draw a picture",
    )
    out = Path("demo-output")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="where the picture goes")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="the same seed, the same run")
    parser.add_argument("--epochs", type=count, default=20, metavar="N", help="passes over the images")


def run(options: argparse.Namespace) -> int:
    """Runs the demonstration and prints its report."""
    require(*NEEDS)
    from pyhue._demo.run import run as run_demo

    report = run_demo(options.out, seed=options.seed, epochs=options.epochs)
    show(options, str(report), report)
    return 0
