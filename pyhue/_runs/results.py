"""What the folder of a run says: options, results of the trainings, curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, get_type_hints

from pyhue._files.reading import reading, require_fit
from pyhue._files.tables import read_csv
from pyhue._runs.config import TrainConfig
from pyhue._text import printable

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
    parameters: int  #: that were trained
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
        raise ValueError(f"{printable(folder)}: not the folder of a run: it has no {CONFIG}")
    config = load_config(folder / CONFIG)
    results, curves = {}, {}
    for path in folder.glob(f"seed-*/fold-*/{RESULT}"):
        result = _load_result(path)
        key = result.seed, result.fold
        results[key], curves[key] = result, _load_curve(path.with_name(METRICS), result.epochs)
    return Run(folder, config, dict(sorted(results.items())), dict(sorted(curves.items())))


def load_config(path: Path) -> TrainConfig:
    """Reads the options of a run.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged; the message names it.
    """
    try:
        return TrainConfig.from_json(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from error


def _load_result(path: Path) -> Result:
    with reading(path, "the result of a training"):
        result = Result(**json.loads(path.read_text("utf-8")))
        require_fit(result._asdict(), get_type_hints(Result))
        if (path.parent.parent.name, path.parent.name) != (f"seed-{result.seed}", f"fold-{result.fold}"):
            raise ValueError(f"it is of seed {result.seed}, fold {result.fold}")
        if not 0 <= result.accuracy <= 1:
            raise ValueError(f"accuracy: expected 0 to 1, got {result.accuracy}")
        for name in ("images", "train_images", "epochs", "steps", "parameters", "processes"):
            if getattr(result, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(result, name)}")
    return result


def _load_curve(path: Path, epochs: int) -> list[dict[str, float]]:
    result = path.with_name(RESULT)
    with reading(path, f"the curves of a training of {epochs} epochs, as {printable(result)} says"):
        curve = read_csv(path)
        if [row.get("epoch") for row in curve] != list(range(1, epochs + 1)):
            raise ValueError("expected a row for each epoch")
    return curve
