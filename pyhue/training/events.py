"""What a training measures, for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyhue._text import utf8

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from pyhue.training.checkpoint import Epoch


def can_have_events(folder: Path) -> bool:
    """Whether TensorBoard's writer opens files there: the name has to be UTF-8."""
    return utf8(str(folder)) == str(folder)


@contextmanager
def tensorboard(folder: Path, first_epoch: int) -> Iterator[SummaryWriter]:
    """A writer of TensorBoard events; of earlier ones those from `first_epoch` on are withdrawn."""
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder), purge_step=first_epoch)
    try:
        yield writer
    finally:
        writer.close()


def log_epoch(writer: SummaryWriter, row: Epoch) -> None:
    """Adds an epoch's numbers to the events, as `train/loss` and so on."""
    add: Any = writer.add_scalar
    for name, value in row._asdict().items():
        if name != "epoch" and value is not None:
            add(name.replace("_", "/", 1) if name != "learning_rate" else name, value, row.epoch)
    writer.flush()
