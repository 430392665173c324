"""The options of a run: one frozen dataclass, saved with the run, from which the command line is made."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, get_type_hints

from pyhue._files.reading import require_fit

LOSSES = ("onehot", "onehot+hue")
IMAGE_SIZE = 224  #: of every command, unless it is told another
HUE_LABELS = ("circle", "random", "uniform", "binary", "center")
#: Options that may change when a run goes on: they add trainings and leave those that are there as they are.
EXTENSIBLE = ("data", "seeds", "folds_run", "device")


def _option(default: Any, text: str, choices: tuple[str, ...] | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Options of `pyhue train`; the defaults are the recipe of arXiv 2310.03911 where it gives one.

    Raises:
        ValueError: an option has a value that it cannot have; the message names it.
    """

    data: str
    backbone: str = _option(
        "resnet18",
        "resnet18[-3x3][-wWIDTH], torchvision:NAME, timm:NAME, MODULE:FACTORY or FILE.py:FACTORY",
    )
    pretrained: bool = _option(False, "start from the weights that torchvision or timm offers")
    weights: str | None = _option(None, "file of weights to start from: safetensors or a state_dict")
    layer: str | None = _option(None, "layer of the backbone to train on; what it pools if not given")
    image_size: int = _option(IMAGE_SIZE, "side of the images in pixels")
    loss: str = _option("onehot+hue", "what is minimised", LOSSES)
    hue_labels: str = _option("circle", "kind of the hue labels", HUE_LABELS)
    hue_scale: float | None = _option(None, "factor of the hue distances; 1 / (2 classes) if not given")
    hue_weight: float = _option(1.0, "factor of the hue term")
    label_smoothing: float = _option(0.0, "part of every target that is spread over the classes")
    epochs: int = _option(100, "passes over the images")
    batch_size: int = _option(64, "largest number of images in a step, over all processes")
    lr: float = _option(1e-3, "learning rate of Adam at the start; it falls to 0 as a cosine")
    weight_decay: float = _option(0.0, "decoupled weight decay (AdamW); at 0 this is Adam")
    clip_grad_norm: float | None = _option(None, "largest norm of the gradient; not clipped if not given")
    augment: bool = _option(True, "flip at random, and crop at random after padding by an eighth")
    amp: bool = _option(False, "compute in bfloat16 where that is safe (autocast)")
    seeds: tuple[int, ...] = _option((0,), "repeat everything, the division into folds too, for each seed")
    folds: int = _option(5, "parts of the cross-validation when the data have no folder test or val")
    folds_run: int | None = _option(None, "train for the first N folds only; all if not given")
    on_error: str = _option("raise", "what unreadable files and folders do", ("raise", "skip"))
    device: str = _option("auto", "cpu, cuda, or auto: cuda if there is one")

    def __post_init__(self) -> None:
        if isinstance(self.seeds, list):  # read from JSON
            object.__setattr__(self, "seeds", tuple(self.seeds))
        require_fit(vars(self), get_type_hints(TrainConfig))
        for field in dataclasses.fields(self):
            choices, value = field.metadata.get("choices"), getattr(self, field.name)
            if choices and value not in choices:
                raise ValueError(f"{field.name}: expected one of {', '.join(choices)}, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name}: expected a finite number, got {value}")
        _at_least(1, image_size=self.image_size, epochs=self.epochs, folds_run=self.folds_run)
        _at_least(2, batch_size=self.batch_size, folds=self.folds)
        _at_least(0, hue_scale=self.hue_scale, hue_weight=self.hue_weight, weight_decay=self.weight_decay)
        _above_zero(lr=self.lr, clip_grad_norm=self.clip_grad_norm)
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing: expected 0 to 1, got {self.label_smoothing}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected different numbers, got {self.seeds}")
        if not all(0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds: expected 0 to 2**32 - 1, got {self.seeds}")

    def to_json(self) -> str:
        """The options as text, one on a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> TrainConfig:
        """The options that `to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            return TrainConfig(**json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not the options of a run: {error}") from error

    def differences(self, other: TrainConfig) -> list[str]:
        """Names of the options in which two runs differ, without those that may change when a run goes on."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in EXTENSIBLE]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def _at_least(least: int, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")


def _above_zero(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
