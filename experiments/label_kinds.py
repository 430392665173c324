"""Kinds of hue labels, beside one-hot alone: the paper's first version, figure 6, with a short head.

    python experiments/label_kinds.py int8.safetensors --out label-kinds.jsonl
    python experiments/label_kinds.py int8.safetensors --out label-kinds.jsonl --table

The head sees averages of a fixed network's maps: a hidden layer of 256, then the linear layers of
`HueHead`. So the hue term can shape the hidden layer only, not the network. Learning rate and weight decay
are tuned for one-hot and for hue (circle) with as many trials each, on folds of a seed that the comparison
does not use; scale and weight are swept there too. "learned" are labels on the circle that receive a
gradient.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
import units
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pyhue.descriptors import average
from pyhue.images import stratified_folds
from pyhue.nn import HueCrossEntropyLoss, HueHead, hue_labels
from pyhue.training.statistics import estimate

EPOCHS, BATCH, HIDDEN, FOLDS = 20, 64, 256, 5
TUNING_SEED = 100
RATES, DECAYS = (3e-4, 1e-3, 3e-3), (0.0, 0.01, 0.1)
SCALE = 1.0  # in the comparison
SCALES, WEIGHTS = (0.1, 1.0, 10.0, 100.0), (0.1, 1.0, 10.0)  # swept; the paper's scale, 1 / (2 C), besides
KINDS = ("onehot", "circle", "random", "uniform", "binary", "center", "learned")


class Trial(NamedTuple):
    """One training."""

    kind: str
    rate: float
    decay: float
    scale: float
    weight: float
    seed: int
    fold: int

    @property
    def key(self) -> str:
        """Of its result."""
        return "/".join(map(str, self))


class Head(nn.Module):
    """The hidden layer and what follows; the same weights at the start whatever the loss is."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, HIDDEN)
        self.head = HueHead(HIDDEN, classes)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and hue."""
        logits, hue = self.head(self.hidden(vectors).relu())
        return logits, hue


class Experiment:
    """Averages of maps, and their labels."""

    def __init__(self, data: units.Activations) -> None:
        starts = range(0, len(data.maps), 256)
        vectors = np.concatenate([average(data.maps[at : at + 256]) for at in starts])
        self.vectors = torch.from_numpy(vectors / vectors.std())
        self.classes = int(data.labels.max()) + 1
        self.numpy_labels = data.labels
        self.labels = torch.from_numpy(np.array(data.labels))

    def unit(self, key: str) -> dict[str, float]:
        """Accuracy of a training on the images of its fold."""
        kind, *numbers = key.split("/")
        trial = Trial(kind, *map(float, numbers[:4]), *map(int, numbers[4:]))
        torch.manual_seed(trial.seed * FOLDS + trial.fold)
        train, test = map(
            torch.from_numpy, stratified_folds(self.numpy_labels, FOLDS, trial.seed)[trial.fold]
        )
        model = Head(self.vectors.shape[1], self.classes)
        loss = self.loss(trial)
        # Angles of learned labels get no weight decay: it would draw them to angle 0.
        groups = [{"params": model.parameters()}, {"params": loss.parameters(), "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=trial.rate, weight_decay=trial.decay)
        steps = -(-len(train) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
        shuffle = torch.Generator().manual_seed(trial.seed)
        for _ in range(EPOCHS):
            for part in train[torch.randperm(len(train), generator=shuffle)].tensor_split(steps):
                logits, hue = model(self.vectors[part])
                target = self.labels[part]
                value = cross_entropy(logits, target) if kind == "onehot" else loss(logits, hue, target)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            found = model(self.vectors[test])[0].argmax(1)
        return {"accuracy": (found == self.labels[test]).double().mean().item()}

    def loss(self, trial: Trial) -> HueCrossEntropyLoss:
        """The hue loss with the kind's labels, drawn from the seed."""
        name = {"onehot": "circle", "learned": "circle"}.get(trial.kind, trial.kind)
        labels = hue_labels(self.classes, name, torch.Generator().manual_seed(trial.seed))
        return HueCrossEntropyLoss(
            self.classes,
            labels=labels,
            learnable=trial.kind == "learned",
            hue_scale=trial.scale,
            hue_weight=trial.weight,
        )


def tuning(kind: str) -> dict[tuple[float, float], list[Trial]]:
    """By learning rate and weight decay."""
    return {
        (rate, decay): [Trial(kind, rate, decay, SCALE, 1.0, TUNING_SEED, fold) for fold in range(FOLDS)]
        for rate, decay in itertools.product(RATES, DECAYS)
    }


def sweep(classes: int, rate: float, decay: float) -> dict[tuple[float, float], list[Trial]]:
    """By scale and weight, circle labels, on the folds of tuning."""
    return {
        (scale, weight): [
            Trial("circle", rate, decay, scale, weight, TUNING_SEED, fold) for fold in range(FOLDS)
        ]
        for scale, weight in itertools.product((1 / (2 * classes), *SCALES), WEIGHTS)
    }


def comparison(kind: str, rate: float, decay: float, seeds: int) -> list[Trial]:
    """All folds of all seeds."""
    return [
        Trial(kind, rate, decay, SCALE, 1.0, seed, fold) for seed in range(seeds) for fold in range(FOLDS)
    ]


def mean(trials: list[Trial], done: dict[str, dict]) -> float:
    """Of their accuracies."""
    return float(np.mean([done[trial.key]["accuracy"] for trial in trials]))


def best(kind: str, done: dict[str, dict]) -> tuple[float, float]:
    """Learning rate and weight decay with the highest mean."""
    found = tuning("onehot" if kind == "onehot" else "circle")
    return max(found, key=lambda pair: mean(found[pair], done))


def row(trials: list[Trial], others: list[Trial], done: dict[str, dict]) -> str:
    """Cells: accuracy, the difference to other trainings of the same folds, and its p."""
    values, alone = ([done[trial.key]["accuracy"] for trial in some] for some in (trials, others))
    own = estimate(values, 1 / (FOLDS - 1))
    gain = estimate([100 * (a - b) for a, b in zip(values, alone, strict=True)], 1 / (FOLDS - 1))
    p_value = f"{gain.p_value:.2f}" if gain.p_value >= 0.005 else "< 0.01"
    shown = f"{gain.mean:+.2f} ± {gain.margin:.2f} | {p_value}" if trials != others else " | "
    return f"{100 * own.mean:.1f} ± {100 * own.margin:.1f} % | {shown}"


def table(done: dict[str, dict], classes: int, seeds: int) -> str:
    """Markdown; rows whose trainings are all there."""

    def whole(trials: list[Trial]) -> bool:
        return all(trial.key in done for trial in trials)

    lines = ["| learning rate, weight decay | one-hot | hue |", "|---|---|---|"]
    for pair in tuning("onehot"):
        both = [f"{100 * mean(tuning(kind)[pair], done):.1f} %" for kind in ("onehot", "circle")]
        lines.append(f"| {pair[0]:g}, {pair[1]:g} | {both[0]} | {both[1]} |")
    lines += ["", "| hue_scale | hue_weight | accuracy | minus one-hot | p |", "|---|---|---|---|---|"]
    chosen = best("circle", done)
    for (scale, weight), trials in sweep(classes, *chosen).items():
        if whole(trials):
            lines.append(f"| {scale:.3g} | {weight:g} | {row(trials, tuning('onehot')[chosen], done)} |")
    lines += ["", "| labels | accuracy | minus one-hot | p |", "|---|---|---|---|"]
    for kind in KINDS:
        trials, alone = (comparison(name, *best(name, done), seeds) for name in (kind, "onehot"))
        if whole(trials + alone):
            lines.append(f"| {kind} | {row(trials, alone, done)} |")
    return "\n".join(lines)


def main() -> None:
    """Does what is not done yet."""
    parser = units.parser(__doc__)
    parser.add_argument("--table", action="store_true", help="print the tables, once all is done")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison: 0, 1, ...")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a short head gains nothing from more
    experiment = Experiment(units.load(options.activations))
    if options.table:
        print(table(units.results(options.out), experiment.classes, options.seeds))
        return

    def run(trials: list[Trial]) -> None:
        units.run(options.out, [trial.key for trial in trials], experiment.unit, options.seconds)

    for kind in ("onehot", "circle"):
        run([trial for trials in tuning(kind).values() for trial in trials])
    done = units.results(options.out)
    swept = sweep(experiment.classes, *best("circle", done))
    run([trial for trials in swept.values() for trial in trials])
    for seeds in range(1, options.seeds + 1):  # a seed after the other, so that a part of them can be shown
        for kind in KINDS:
            run(comparison(kind, *best(kind, done), seeds))


if __name__ == "__main__":
    main()
