"""The images of a run, and which of them each training uses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyhue._runs.config import TrainConfig
from pyhue._stderr import progress_bar
from pyhue.images import Images, decode_image, splits, stratified_folds
from pyhue.images.splits import report

_CACHE_BYTES = 4 << 30  # data sets up to this size are decoded once and kept; larger ones for each batch
_WORKERS = os.cpu_count() or 1


class Fold(NamedTuple):
    """One training: which images it uses, as indices into the data set."""

    seed: int
    number: int
    train: NDArray[np.int64]
    val: NDArray[np.int64] | None  #: measured after every epoch
    test: NDArray[np.int64] | None  #: measured at the end; None: the last epoch's `val` is the result
    fingerprint: str  #: the same for two runs that train and test on the same images

    def folder(self, run: Path) -> Path:
        """Where the files of this training are."""
        return run / f"seed-{self.seed}" / f"fold-{self.number}"


class DataSet:
    """Images of all parts of the data, decoded, scaled and in memory where they fit.

    Attributes:
        labels: int64 (n,).
        classes: names of the classes.
        skipped: files and folders that could not be read, and why.
        left_out: these, and what was passed over, in lines for people.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._root = Path(config.data)
        self._size = config.image_size
        parts = splits(self._root, config.on_error)
        present = [part for part in parts if part is not None]
        self._paths = [path for part in present for path in part.paths]
        self._train, self._val, self._test = _ranges(parts)
        self.labels = torch.from_numpy(np.concatenate([part.labels for part in present]))
        self.classes = parts.train.classes
        self.skipped = [pair for part in present for pair in part.skipped]
        self.left_out = report(present)
        self._pixels = None
        if len(self._paths) * 3 * self._size**2 <= _CACHE_BYTES:
            every = np.arange(len(self._paths))
            self._pixels = self._decode(every, shown=True)

    def batches(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images float32 (b, 3, size, size), 0 to 1, and labels (b,) of each batch of indices.

        Where images are not in memory, the next batch is read while the caller works on this one.
        """
        with ThreadPoolExecutor(1) as ahead:
            waiting = [ahead.submit(self._read, batch) for batch in batches[:1]]
            for number, batch in enumerate(batches):
                pixels = waiting.pop().result()
                if number + 1 < len(batches):
                    waiting.append(ahead.submit(self._read, batches[number + 1]))
                yield pixels.float() / 255, self.labels[torch.from_numpy(batch)]

    def folds(self, config: TrainConfig) -> list[Fold]:
        """The trainings of a run, for each seed: one where the data are divided, else one for each fold.

        Raises:
            ValueError: a class has fewer images than there are folds.
        """
        found = []
        for seed in config.seeds:
            if self._val is not None or self._test is not None:
                found.append(self._fold(seed, 0, self._train, self._val, self._test))
                continue
            pairs = stratified_folds(self.labels.numpy(), config.folds, seed, self.classes)
            for number, (train, test) in enumerate(pairs[: config.folds_run]):
                found.append(self._fold(seed, number, train, None, test))
        return found

    def _fold(
        self,
        seed: int,
        number: int,
        train: NDArray[np.int64],
        val: NDArray[np.int64] | None,
        test: NDArray[np.int64] | None,
    ) -> Fold:
        digest = hashlib.sha256()
        for part in (train, val, test):
            for index in [] if part is None else part:
                digest.update(os.fsencode(self._paths[index].relative_to(self._root)) + b"\0")
            digest.update(b"\0")
        return Fold(seed, number, train, val, test, digest.hexdigest()[:16])

    def _read(self, indices: NDArray[np.int64]) -> Tensor:
        if self._pixels is None:
            return self._decode(indices, shown=False)
        return self._pixels[torch.from_numpy(indices)]

    def _decode(self, indices: NDArray[np.int64], shown: bool) -> Tensor:
        pixels = np.empty((len(indices), 3, self._size, self._size), np.uint8)

        def decode(place: int) -> None:
            pixels[place] = decode_image(self._paths[indices[place]], self._size)

        with ThreadPoolExecutor(_WORKERS) as pool:
            done = pool.map(decode, range(len(indices)))
            hidden = None if shown else True  # None: shown on a terminal only
            bar = progress_bar(
                done, "decoding images", len(indices), disable=hidden, unit="image", leave=False
            )
            for _ in bar:
                pass
        return torch.from_numpy(pixels)


def _ranges(
    parts: tuple[Images, Images | None, Images | None],
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Where the images of each part are when all are put behind each other."""
    ends = np.cumsum([0 if part is None else len(part.paths) for part in parts])
    train, val, test = (
        None if part is None else np.arange(end - len(part.paths), end)
        for part, end in zip(parts, ends, strict=True)
    )
    assert train is not None
    return train, val, test
