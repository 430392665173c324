"""All trainings of a run: for every seed, every fold."""

from __future__ import annotations

from pathlib import Path

import torch

from pyhue._files.atomic import make_folder, remove_temporaries, require_folder, write_atomically
from pyhue._files.tables import write_csv
from pyhue._runs.config import TrainConfig
from pyhue._runs.results import CHECKPOINT, CONFIG, RESULT, load_run
from pyhue._stderr import say
from pyhue._text import printable
from pyhue.training.data import DataSet, Fold
from pyhue.training.events import can_have_events
from pyhue.training.fold import train_fold
from pyhue.training.model import backbone_of
from pyhue.training.report import summary, write_report
from pyhue.training.workers import workers

SKIPPED = "skipped.csv"


def train(config: TrainConfig, out: Path) -> str:
    """Trains what is not trained yet, and writes everything into the folder `out`.

    Called again after it was killed, it goes on after the last whole epoch, and ends with the same numbers as
    a run that was not: on the same kind of machine, with as many threads and processes.

    Args:
        config: options of the run.
        out: folder of the run; made where it is not there.

    Returns:
        The report as text; empty in the processes that torchrun started beside the first.

    Raises:
        ValueError: an argument or the data are wrong, or `out` has a run with other options.
        OSError: something cannot be read or written.
    """
    with workers(config.device) as team:
        if config.batch_size < 2 * team.size:
            raise ValueError(f"batch_size: expected at least 2 for each of {team.size} processes")
        _check_options(config, out)
        _check_backbone(config)
        data = DataSet(config)
        folds = data.folds(config)
        pending = [fold for fold in folds if not _finished(fold, out)]
        team.total(0.0)  # all have looked before anyone writes
        if team.first:
            _begin(config, data, out)
        for fold in pending:
            train_fold(config, data, fold, out, team)
            if team.first:
                _report(data, folds, out)
        return _report(data, folds, out) if team.first else ""


def _report(data: DataSet, folds: list[Fold], out: Path) -> str:
    """Writes the report of what is trained so far, earlier seeds and folds with it; returns its summary."""
    run = load_run(out)
    expected = len(run.results.keys() | {(fold.seed, fold.number) for fold in folds})
    write_report(run, expected, data.skipped)
    return summary(run, expected, data.skipped)


def _check_options(config: TrainConfig, out: Path) -> None:
    require_folder(out)
    if not (out / CONFIG).exists():
        return
    there = load_run(out)
    if not there.results and not any(out.glob(f"seed-*/fold-*/{CHECKPOINT}")):
        return  # nothing was kept: the loss became infinite in the first epoch, say
    differences = [
        f"{name} is {getattr(there.config, name)!r} there and {getattr(config, name)!r} here"
        for name in there.config.differences(config)
    ]
    if differences:
        raise ValueError(
            f"{printable(out)} has a run with other options: {'; '.join(differences)}; take another --out"
        )


def _check_backbone(config: TrainConfig) -> None:
    """Makes the network once, so that one that cannot be made is an error before images are read."""
    with torch.random.fork_rng([]):
        backbone_of(config)


def _finished(fold: Fold, out: Path) -> bool:
    if not (fold.folder(out) / RESULT).exists():
        return False
    result = load_run(out).results[fold.seed, fold.number]
    if result.fingerprint != fold.fingerprint:
        raise ValueError(
            f"{printable(fold.folder(out))}: was trained on other images than those of the data now"
        )
    return True


def _begin(config: TrainConfig, data: DataSet, out: Path) -> None:
    make_folder(out)
    remove_temporaries(out)
    for line in data.left_out:
        say(line)
    say(f"{len(data.labels):,} images of {len(data.classes)} classes at {config.image_size} pixels")
    if not can_have_events(out):
        say(f"no events for TensorBoard, which opens names in UTF-8 only: {out}")
    write_atomically(out / CONFIG, config.to_json())
    if data.skipped:
        notes = [(printable(path), printable(text)) for path, text in data.skipped]
        write_csv(out / SKIPPED, ("file", "reason"), notes)
