"""`pyhue --print-completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any


class PrintCompletion(argparse.Action):
    """Prints the script for the shell that is named, made by shtab from all parsers, and ends the process."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        """Where shtab is not installed, an error that says so."""
        if not importlib.util.find_spec("shtab"):
            parser.error("--print-completion needs shtab; install with: pip install shtab")
        import shtab

        print(shtab.complete(parser, values))
        parser.exit()
