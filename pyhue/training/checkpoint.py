"""The state of a training on disk, whole at any moment."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pyhue._files.atomic import write_atomically

_VERSION = 1


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
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if content.pop("version") != _VERSION:
            raise ValueError("another version")
        content["history"] = [Epoch(*row) for row in content["history"]]
        return Checkpoint(**content)
    except Exception as error:  # what torch raises on a damaged file depends on the damage
        raise ValueError(
            f"{path}: not a checkpoint that can be read ({error}); remove it to train this fold again"
        ) from error


def to_bytes(content: object) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
