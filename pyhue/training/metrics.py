"""What a training measures, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyhue._files.atomic import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from pyhue.training.checkpoint import Epoch


def write_csv(path: Path, rows: Sequence[NamedTuple]) -> None:
    """Writes rows of one kind, with a line of names; numbers in full, None as nothing.

    The file is written anew and atomically, so it never holds half a line.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(rows[0]._fields)
    table.writerows(rows)
    write_atomically(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, float]]:
    """Reads what `write_csv` wrote; empty fields are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


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
