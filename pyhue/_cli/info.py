"""`pyhue info`."""

from __future__ import annotations

import argparse

import pyhue
from pyhue._cli.common import Commands, add_command


def add_parser(commands: Commands) -> None:
    """Declares the command."""
    add_command(commands, "info", "print versions, instruction set, threads and what was built in")


def run(options: argparse.Namespace) -> int:
    """Prints the configuration."""
    pyhue.show_config()
    return 0
