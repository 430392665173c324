"""What the experiments share: activations, and results that are kept piece by piece.

An experiment is a list of units, each with a key. A unit's result is one line of JSON; what has its line is
not done again, so an experiment can be stopped at any time and goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BEGIN = time.monotonic()


class Activations(NamedTuple):
    """What a network makes of images."""

    maps: NDArray[np.float16]  #: (images, channels, H, W)
    labels: NDArray[np.int64]  #: (images,)


def load(path: Path) -> Activations:
    """From a file of `pyhue features`, or from OUT.npy (images, side^2, channels) and OUT.labels.npy."""
    if path.suffix == ".npy":
        pixels = np.load(path, mmap_mode="r")
        side = round(pixels.shape[1] ** 0.5)
        maps = pixels.transpose(0, 2, 1).reshape(len(pixels), -1, side, side)
        return Activations(maps, np.load(path.with_suffix(".labels.npy")))
    from pyhue.features import load_features

    features = load_features(path)
    return Activations(features.activations, features.labels)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every experiment."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "activations", type=Path, help="a file of pyhue features, or .npy with .labels.npy beside it"
    )
    made.add_argument("--out", type=Path, required=True, help="results, a line of JSON for each unit")
    made.add_argument("--seconds", type=float, default=float("inf"), help="begin no unit later")
    return made


def run(out: Path, keys: Iterable[str], compute: Callable[[str], dict[str, Any]], seconds: float) -> None:
    """Computes the units that have no line yet; exits with status 75 when some are left."""
    done = results(out)
    for key in keys:
        if key in done:
            continue
        if time.monotonic() > _BEGIN + seconds:
            sys.exit(75)
        result = compute(key)
        with open(out, "a") as file:
            file.write(json.dumps({"key": key} | result) + "\n")


def results(out: Path) -> dict[str, dict[str, Any]]:
    """By key."""
    lines = out.read_text().splitlines() if out.exists() else []
    return {line["key"]: line for line in map(json.loads, lines)}
