"""What `pyhue demo` does: train on handwritten digits with the hue loss, classify by density, report."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from pyhue._config import get_num_threads
from pyhue._demo.brute_force import brute_force, require_same_neighbors
from pyhue._demo.plot import draw, pick
from pyhue._files.atomic import make_folder
from pyhue._stderr import progress_bar
from pyhue.memory import PixelMemory
from pyhue.nn import HueCrossEntropyLoss, HueHead
from pyhue.pixel_vectors import pixel_vectors

_CLASSES = 10
_CHANNELS = 128
_K = 10
_BATCH = 64
_ROUNDS = 3
_TIMED = 2048  # queries of the race: NumPy needs a second for them


class Split(NamedTuple):
    """Some of the digits."""

    images: Tensor  #: float32 (n, 1, 8, 8), 0 to 1
    labels: Tensor  #: int64 (n,)


class Report(NamedTuple):
    """What a run found; `str` gives the text that the command prints."""

    train_images: int
    test_images: int
    head_accuracy: float  #: of the network's own logits, on the test images
    memory_accuracy: float  #: of the memory's densities, on the same images
    vectors: int  #: stored in the memory
    queries: int  #: vectors of the test images
    search_rate: float  #: queries a second, PixelMemory.search
    brute_force_rate: float  #: queries a second, NumPy matmul and argpartition
    threads: int
    picture: Path

    def __str__(self) -> str:
        ratio = self.search_rate / self.brute_force_rate
        return "\n".join(
            (
                f"Handwritten digits: {self.train_images} images to train on, {self.test_images} held out",
                f"  accuracy, network's own head   {self.head_accuracy:8.1%}",
                f"  accuracy, memory by density    {self.memory_accuracy:8.1%}",
                f"  vectors stored                 {self.vectors:8,}   of {_CHANNELS} channels",
                f"  queries a second, pyhue        {self.search_rate:8,.0f}   "
                f"exact, {_K} neighbours, {self.threads} threads",
                f"  queries a second, NumPy        {self.brute_force_rate:8,.0f}   "
                f"brute force, the same neighbours; pyhue is {ratio:.1f}x as fast",
                f"  picture                        {self.picture}",
            )
        )


class Network(nn.Module):
    """8 x 8 images to a bottleneck of 4 x 4 vectors, and from its average to logits and a hue point."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, _CHANNELS, 3, padding=1),
            nn.ReLU(),
        )
        self.head = HueHead(_CHANNELS, _CLASSES)

    def bottleneck(self, images: Tensor) -> Tensor:
        """Feature maps (n, channels, 4, 4), not negative."""
        maps: Tensor = self.body(images)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and hue (n, 2)."""
        logits, hue = self.head(self.bottleneck(images).mean(dim=(2, 3)))
        return logits, hue


def run(out: str | os.PathLike[str], seed: int = 0, epochs: int = 20) -> Report:
    """Trains, fills a memory, classifies, times the search, draws the picture into folder `out`."""
    folder = Path(out)
    make_folder(folder)
    train, test = _digits(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _trained(train, epochs)
    with torch.inference_mode():
        logits = network(test.images)[0]
        stored, queries = (network.bottleneck(part.images).numpy() for part in (train, test))
    memory = PixelMemory(dim=_CHANNELS)
    memory.add(stored, train.labels.numpy())
    likelihood = memory.log_likelihood(queries, k=_K)
    labels = test.labels.numpy()
    vectors = np.ascontiguousarray(pixel_vectors(queries)).reshape(-1, _CHANNELS)
    rates = _rates(memory, vectors[:_TIMED])
    shown = pick(likelihood, labels)
    picture = draw(
        folder / "digits.png",
        memory,
        train.images.numpy(),
        test.images.numpy()[shown],
        labels[shown],
        queries[shown],
    )
    return Report(
        train_images=len(train.labels),
        test_images=len(labels),
        head_accuracy=float((logits.argmax(dim=1) == test.labels).double().mean()),
        memory_accuracy=float((likelihood.argmax(axis=1) == labels).mean()),
        vectors=len(memory),
        queries=len(vectors),
        search_rate=rates[0],
        brute_force_rate=rates[1],
        threads=get_num_threads(),
        picture=picture,
    )


def _digits(seed: int) -> tuple[Split, Split]:
    """Three quarters to train on, one quarter held out, every class in proportion."""
    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    parts: list[NDArray[Any]] = train_test_split(
        scaled, labels.astype(np.int64), test_size=0.25, random_state=seed, stratify=labels
    )
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return Split(train_x, train_y), Split(test_x, test_y)


def _trained(train: Split, epochs: int) -> Network:
    """A network after `epochs` passes.

    On one thread: layers this small gain little from more, and wait long for one whose core is busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(Network(), train, epochs)
    finally:
        torch.set_num_threads(threads)


def _train(network: Network, train: Split, epochs: int) -> Network:
    loss = HueCrossEntropyLoss(_CLASSES)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    for _ in progress_bar(range(epochs), "training", unit="epoch", disable=False):
        order = torch.randperm(len(train.labels))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            optimizer.zero_grad()
            logits, hue = network(train.images[batch])
            loss(logits, hue, train.labels[batch]).backward()
            optimizer.step()
    return network.eval()


def _rates(memory: PixelMemory, queries: NDArray[np.float32]) -> tuple[float, float]:
    """Queries a second of the memory and of NumPy, medians of rounds in turn, answers compared.

    NumPy gets queries that are of unit length already; the memory scales them itself.
    """
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    unit = (queries / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    times = np.empty((_ROUNDS, 2))
    for round_times in progress_bar(times, "searching", unit="round", disable=False):
        start = time.perf_counter()
        found = memory.search(queries, k=_K).indices
        middle = time.perf_counter()
        expected = brute_force(memory.vectors, unit, _K)
        round_times[:] = middle - start, time.perf_counter() - middle
    require_same_neighbors(memory.vectors, unit, found, expected)
    search, brute = len(queries) / np.median(times, axis=0)
    return float(search), float(brute)
