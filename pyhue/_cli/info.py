"""`pyhue info`."""

from __future__ import annotations

import argparse

from pyhue._cli.common import Commands, add_command, show
from pyhue._config import as_text, config


def add_parser(commands: Commands) -> None:
    """Declares the command."""
    add_command(
        commands, "info", "print what a bug report needs: versions, CPU, instruction set, what was built"
    )


def run(options: argparse.Namespace) -> int:
    """Prints the configuration."""
    found = config()
    show(options, as_text(found), found)
    return 0
