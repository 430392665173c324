"""One training: the same numbers whether it runs through or is killed and goes on."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from pyhue._files.atomic import make_folder, remove_temporaries, write_atomically
from pyhue._files.tables import write_csv
from pyhue._runs.config import TrainConfig
from pyhue._runs.results import CHECKPOINT, METRICS, MODEL, RESULT, Result
from pyhue._stderr import on_terminal, progress_bar
from pyhue._text import printable
from pyhue.training import checkpoint
from pyhue.training.augment import augmentation
from pyhue.training.checkpoint import Checkpoint, Epoch
from pyhue.training.data import DataSet, Fold
from pyhue.training.events import can_have_events, log_epoch, tensorboard
from pyhue.training.model import Classifier, Loss, memory_format
from pyhue.training.workers import Workers

if TYPE_CHECKING:
    from tqdm import tqdm

_EVALUATION_BATCH = 256


class _Training(NamedTuple):
    """The objects that a training changes, and those it reads."""

    config: TrainConfig
    data: DataSet
    fold: Fold
    workers: Workers
    model: Classifier
    parallel: nn.Module  #: the model itself, or what averages its gradients over the processes
    loss: Loss
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    augment: nn.Module
    images_format: torch.memory_format


def train_fold(config: TrainConfig, data: DataSet, fold: Fold, run: Path, workers: Workers) -> None:
    """Trains one network from where its checkpoint left off, measures it and writes the result.

    The folder of the fold gets `metrics.csv`, TensorBoard events if its name is UTF-8, after every epoch the
    checkpoint, and at the end `model.pt` (the state_dict) and `result.json`; then the checkpoint is removed.

    Args:
        config: options of the run.
        data: the images.
        fold: which of them.
        run: the folder of the run.
        workers: the processes; the first one writes.

    Raises:
        ValueError: the loss became infinite or NaN; or the checkpoint is of other images, or damaged.
        OSError: the disk is full; the checkpoint of the epoch before is still there.
    """
    folder = fold.folder(run)
    if workers.first:
        make_folder(folder)
        remove_temporaries(folder)
    gpus = [workers.device] if workers.device.type == "cuda" else []
    repeatable = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(gpus), repeatable:
        training = _begin(config, data, fold, workers)
        saved = checkpoint.load(folder / CHECKPOINT, workers.device)
        history, seconds = _restore(training, saved, folder / CHECKPOINT)
        with ExitStack() as stack:
            events = tensorboard(folder, len(history) + 1)
            writer = stack.enter_context(events) if workers.first and can_have_events(folder) else None
            bar = stack.enter_context(_progress(training, len(history)))
            for number in range(len(history) + 1, config.epochs + 1):
                start = time.perf_counter()
                history.append(_epoch(training, number, bar))
                seconds += time.perf_counter() - start
                if workers.first:
                    # The checkpoint comes last: killed before it, the epoch is trained and written again.
                    write_csv(folder / METRICS, Epoch._fields, history)
                    if writer is not None:
                        log_epoch(writer, history[-1])
                    checkpoint.save(folder / CHECKPOINT, _state(training, history, seconds))
        _finish(training, history, seconds, folder)


def _begin(config: TrainConfig, data: DataSet, fold: Fold, workers: Workers) -> _Training:
    _seed(fold, 0)
    model = Classifier(config, len(data.classes))
    model.to(workers.device)
    images_format = memory_format(model)
    to_format: Any = model.to  # torch declares .to without memory_format
    to_format(memory_format=images_format)
    loss = Loss(config, len(data.classes), _derived(fold, 0, 1), workers.device)
    # Of frozen parameters, too, which it leaves alone: earlier checkpoints have them.
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return _Training(
        config,
        data,
        fold,
        workers,
        model,
        DistributedDataParallel(model) if workers.size > 1 else model,
        loss,
        optimizer,
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs),
        augmentation(config.image_size) if config.augment else nn.Identity(),
        images_format,
    )


def _restore(training: _Training, saved: Checkpoint | None, path: Path) -> tuple[list[Epoch], float]:
    if saved is None:
        return [], 0.0
    if saved.fingerprint != training.fold.fingerprint:
        raise ValueError(
            f"{printable(path)}: was trained on other images than those of {printable(training.config.data)}"
        )
    with checkpoint.readable(path):
        if len(saved.history) > training.config.epochs:
            raise ValueError(f"{len(saved.history)} epochs of {training.config.epochs}")
        training.model.load_state_dict(saved.model)
        training.optimizer.load_state_dict(saved.optimizer)
        training.scheduler.load_state_dict(saved.scheduler)
    return saved.history, saved.seconds


def _state(training: _Training, history: list[Epoch], seconds: float) -> Checkpoint:
    model, optimizer, scheduler = training.model, training.optimizer, training.scheduler
    states = model.state_dict(), optimizer.state_dict(), scheduler.state_dict()
    return Checkpoint(training.fold.fingerprint, *states, history, seconds)


def _progress(training: _Training, epochs_done: int) -> tqdm[NoReturn]:
    config, fold = training.config, training.fold
    steps = len(_batches(config, fold, 1))
    return progress_bar(
        desc=f"seed {fold.seed} fold {fold.number}",
        total=config.epochs * steps,
        initial=epochs_done * steps,
        unit="step",
        disable=not training.workers.first,
        mininterval=0.2 if on_terminal() else 30,  # a log file gets a line now and then
    )


def _epoch(training: _Training, number: int, bar: tqdm[NoReturn]) -> Epoch:
    rate = training.optimizer.param_groups[0]["lr"]
    loss, accuracy = _train_epoch(training, number, bar)
    training.scheduler.step()
    if training.fold.val is None:
        return Epoch(number, rate, loss, accuracy, None, None)
    val_loss, val_correct = _evaluate(training, training.fold.val)
    return Epoch(number, rate, loss, accuracy, val_loss, val_correct / len(training.fold.val))


def _train_epoch(training: _Training, number: int, bar: tqdm[NoReturn]) -> tuple[float, float]:
    """One pass over the images; mean loss and accuracy on the way."""
    config, fold, workers = training.config, training.fold, training.workers
    batches = _batches(config, fold, number)
    shards = [batch[workers.rank :: workers.size] for batch in batches]
    training.parallel.train()
    loss_sum, correct, seen = 0.0, 0, 0
    for step, (images, target) in enumerate(training.data.batches(shards)):
        _seed(fold, number, step, workers.rank)
        value, hits = _step(training, images, target, len(target) * workers.size / len(batches[step]))
        loss_sum, correct, seen = loss_sum + value * len(target), correct + hits, seen + len(target)
        bar.set_postfix_str(
            f"epoch {number} loss {loss_sum / seen:.4f} accuracy {correct / seen:.1%}", refresh=False
        )
        bar.update()
    loss_sum, correct_sum, total = workers.total(loss_sum, correct, seen)
    return loss_sum / total, correct_sum / total


def _step(training: _Training, images: Tensor, target: Tensor, share: float) -> tuple[float, int]:
    """One step of the optimiser; the loss and how many images were right.

    `share` is this process's part of the batch times the number of processes: with it the mean of the
    gradients over the processes is that of the batch.
    """
    device, limit = training.workers.device, training.config.clip_grad_norm
    images = training.augment(images.to(device)).contiguous(memory_format=training.images_format)
    target = target.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.config.amp):
        logits, hue = training.parallel(images)
    loss = training.loss(logits, hue, target)
    value = loss.item()
    if not math.isfinite(value):
        raise ValueError(f"the loss became {value}; try a lower --lr, or --clip-grad-norm 1")
    training.optimizer.zero_grad()
    (loss * share).backward()
    if limit is not None:
        nn.utils.clip_grad_norm_(training.model.parameters(), limit)
    training.optimizer.step()
    return value, int((logits.argmax(dim=1) == target).sum())


def _batches(config: TrainConfig, fold: Fold, number: int) -> list[NDArray[np.int64]]:
    """The images of an epoch in random order, in batches of equal size or one less."""
    order = np.random.default_rng([fold.seed, fold.number, number]).permutation(fold.train)
    return np.array_split(order, math.ceil(len(order) / config.batch_size))


@torch.inference_mode()
def _evaluate(training: _Training, indices: NDArray[np.int64]) -> tuple[float, int]:
    """Mean cross-entropy, and how many images are classified correctly."""
    model, workers = training.model.eval(), training.workers
    workers.share_buffers(model)  # batch statistics of the processes differ by their last step
    own = indices[workers.rank :: workers.size]
    loss, correct = 0.0, 0
    batches = [own[start : start + _EVALUATION_BATCH] for start in range(0, len(own), _EVALUATION_BATCH)]
    for images, target in training.data.batches(batches):
        with torch.autocast(workers.device.type, torch.bfloat16, enabled=training.config.amp):
            logits = model(images.to(workers.device, memory_format=training.images_format))[0]
        target = target.to(workers.device)
        loss += float(cross_entropy(logits.double(), target, reduction="sum"))
        correct += int((logits.argmax(dim=1) == target).sum())
    loss, hits = workers.total(loss, correct)
    return loss / len(indices), int(hits)


def _finish(training: _Training, history: list[Epoch], seconds: float, folder: Path) -> None:
    """Measures the network on images that it was not trained on, and writes what stays."""
    config, fold, workers = training.config, training.fold, training.workers
    held_out = fold.val if fold.test is None else fold.test
    assert held_out is not None  # a fold has one of them
    loss, correct = _evaluate(training, held_out)
    if not workers.first:
        return
    result = Result(
        seed=fold.seed,
        fold=fold.number,
        measured_on="val" if fold.test is None else "test",
        accuracy=correct / len(held_out),
        loss=loss,
        train_loss=history[-1].train_loss,
        train_accuracy=history[-1].train_accuracy,
        images=len(held_out),
        train_images=len(fold.train),
        epochs=len(history),
        steps=len(history) * len(_batches(config, fold, 1)),
        parameters=sum(part.numel() for part in training.model.parameters() if part.requires_grad),
        processes=workers.size,
        seconds=round(seconds, 1),
        fingerprint=fold.fingerprint,
    )
    write_atomically(folder / MODEL, checkpoint.to_bytes(training.model.state_dict()))
    write_atomically(folder / RESULT, result.to_json())
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _derived(fold: Fold, *key: int) -> int:
    """A seed for one purpose of one training."""
    return int(np.random.SeedSequence([fold.seed, fold.number, *key]).generate_state(1, np.uint64)[0] >> 1)


def _seed(fold: Fold, *key: int) -> None:
    torch.manual_seed(_derived(fold, *key))
