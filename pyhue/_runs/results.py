"""What the folder of a run says: options, results of the trainings, curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from pyhue._files.tables import read_csv
from pyhue._runs.config import TrainConfig

CONFIG, CHECKPOINT, METRICS, MODEL, RESULT = (
    "config.json",
    "checkpoint.pt",
    "metrics.csv",
    "model.pt",
    "result.json",
)


class Result(NamedTuple):
    """How one training ended."""

    seed: int
    fold: int
    measured_on: str  #: "test", or "val" where the data have no other images that were not trained on
    accuracy: float  #: of the network after the last epoch, on images that it was not trained on
    loss: float  #: cross-entropy on them
    train_loss: float  #: of the last epoch
    train_accuracy: float  #: of the last epoch
    images: int  #: measured on
    train_images: int
    epochs: int
    steps: int  #: of the optimiser
    parameters: int
    processes: int
    seconds: float  #: of training; the only number that another run of the same options does not repeat
    fingerprint: str  #: of the images, see `data.Fold`

    def to_json(self) -> str:
        """The result as text."""
        return json.dumps(self._asdict(), indent=2) + "\n"


class Run(NamedTuple):
    """A run, finished or not."""

    folder: Path
    config: TrainConfig
    results: dict[tuple[int, int], Result]  #: by seed and fold, sorted
    curves: dict[tuple[int, int], list[dict[str, float]]]  #: rows of the `metrics.csv` of the same


def load_run(folder: Path) -> Run:
    """Reads what a run folder holds.

    Raises:
        ValueError: it is not the folder of a run, or a file in it is damaged; the message names it.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder}: not the folder of a run: it has no {CONFIG}")
    try:
        config = TrainConfig.from_json((folder / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    results, curves = [], {}
    for path in folder.glob(f"seed-*/fold-*/{RESULT}"):
        try:
            result = Result(**json.loads(path.read_text()))
            curves[result.seed, result.fold] = read_csv(path.with_name(METRICS))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the result of a training: {error}") from error
        results.append(result)
    by_fold = {(result.seed, result.fold): result for result in sorted(results)}
    return Run(folder, config, by_fold, curves)
