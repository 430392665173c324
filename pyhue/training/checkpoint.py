"""The state of a training on disk, whole at any moment."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import torch

from pyhue._files.atomic import write_atomically
from pyhue._files.reading import reading, require_fit
from pyhue.backbones.weights import load_plain

_VERSION = 1
_PLAIN = {"fingerprint": str, "seconds": float}


class Epoch(NamedTuple):
    """What was measured in one pass over the images."""

    epoch: int  #: from 1
    learning_rate: float
    train_loss: float  #: mean over the pass, of what is minimised
    train_accuracy: float  #: over the pass, on augmented images, while the network changes
    val_loss: float | None  #: cross-entropy
    val_accuracy: float | None


class Checkpoint(NamedTuple):
    """Everything that a training needs to go on after an epoch.

    There is no state of random generators: every epoch and step derives its randomness from the seed and its
    own number.
    """

    fingerprint: str  #: of the images, see `data.Fold`
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    history: list[Epoch]
    seconds: float  #: of training so far


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically.

    Raises:
        OSError: it cannot be written; the one before is still there.
    """
    content = checkpoint._asdict() | {"history": [tuple(row) for row in checkpoint.history]}
    write_atomically(path, to_bytes(content | {"version": _VERSION}))


def load(path: Path, device: torch.device) -> Checkpoint | None:
    """Reads a checkpoint; None if there is no such file.

    Raises:
        ValueError: the file is not a checkpoint; the message names it.
    """
    if not path.exists():
        return None
    with readable(path):
        content = load_plain(path, device)
        if content.pop("version") != _VERSION:
            raise ValueError("another version")
        content["history"] = [Epoch(*row) for row in content["history"]]
        for row in content["history"]:
            require_fit(row._asdict(), get_type_hints(Epoch))
        found = Checkpoint(**content)
        require_fit({"fingerprint": found.fingerprint, "seconds": found.seconds}, _PLAIN)
        if [row.epoch for row in found.history] != list(range(1, len(found.history) + 1)):
            raise ValueError("epochs are missing")
    return found


def readable(path: Path) -> AbstractContextManager[None]:
    """Makes of whatever goes wrong with a checkpoint's content a ValueError that names the file."""
    return reading(path, "a checkpoint that can be read; remove it to train this fold again")


def to_bytes(content: object) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
