"""`pyhue train`."""

from __future__ import annotations

import argparse
import dataclasses
import types
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pyhue._cli.common import Commands, add_command, require, show
from pyhue._runs.config import TrainConfig


def add_parser(commands: Commands) -> None:
    """Declares the command; its options are the fields of `TrainConfig`."""
    parser = add_command(commands, "train", "train a classifier of images with or without the hue loss")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="folder with a folder of images for each class, or with train/ val/ test/",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="RUN",
        help="folder of the run; the same command again goes on where it was stopped",
    )
    hints = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if field.name != "data":
            _add_option(parser, field, hints[field.name])


def run(options: argparse.Namespace) -> int:
    """Trains, and prints the summary of the report."""
    require("torch", "PIL", "sklearn", "matplotlib", "kornia", "tensorboard")
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    config = TrainConfig(**{name: value for name, value in vars(options).items() if name in names})
    from pyhue.training.run import train

    text = train(config, options.out)
    if text:
        from pyhue._runs.results import load_run

        show(options, text, {"run": options.out, "results": list(load_run(options.out).results.values())})
    return 0


def _add_option(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    name, text = "--" + field.name.replace("_", "-"), field.metadata["help"]
    if hint is bool:
        parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        return
    several = hint == tuple[int, ...]
    kind = get_args(hint)[0] if several or isinstance(hint, types.UnionType) else hint
    choices = field.metadata["choices"]
    default: Any = field.default
    if several:
        text += f" (default: {' '.join(map(str, default))})"
    parser.add_argument(
        name,
        type=kind,
        nargs="+" if several else None,
        default=argparse.SUPPRESS if several or default is None else default,
        choices=choices,
        metavar=None if choices else {int: "N", float: "X", str: "NAME"}[kind],
        help=text,
    )
