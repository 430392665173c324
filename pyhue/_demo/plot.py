"""The picture of `pyhue demo`: test images, the memory images nearest to them, and their likelihoods."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pyhue._figures import GREEN, INK, PALE, RED, to_png
from pyhue._files.atomic import write_atomically
from pyhue.memory import PixelMemory
from pyhue.pixel_vectors import pixel_vectors

_NEIGHBORS = 5  # memory images shown in a row
_RIGHT, _WRONG, _OTHER = GREEN, RED, PALE


class Votes(NamedTuple):
    """The memory images nearest to one test image, most votes first."""

    images: NDArray[np.int64]
    shares: NDArray[np.float64]  #: of all the votes, the sum of f in equation 2


def pick(log_likelihood: NDArray[np.float64], labels: NDArray[np.int64], count: int = 6) -> NDArray[np.int64]:
    """Which images to show: typical ones of different classes, then the two hardest, worst last.

    Hard is a small margin of the true class over the best other; below zero the image is misclassified.
    """
    everyone = np.arange(len(labels))
    others = log_likelihood.copy()
    others[everyone, labels] = -np.inf
    margin = log_likelihood[everyone, labels] - others.max(axis=1)
    hardest = np.argsort(margin, kind="stable")[1::-1]
    typical: list[int] = []
    middle = np.sort(margin)[len(margin) // 2]
    for index in np.flatnonzero(margin >= middle):
        if labels[index] not in labels[[*typical, *hardest]]:
            typical.append(int(index))
    return np.array([*typical[: count - 2], *hardest], np.int64)


def votes(memory: PixelMemory, activation: NDArray[Any], k: int = 10, eps: float = 1e-8) -> Votes:
    """Adds up, for each memory image, the kernel of its vectors among the neighbours of one test image.

    Args:
        memory: what is searched.
        activation: feature maps (channels, H, W) of the test image.
        k: neighbours of each pixel vector.
        eps: added to the squared bandwidth.
    """
    distances, indices = memory.search(pixel_vectors(activation[None])[0], k)
    bandwidth = distances[:, :1].astype(np.float64) + eps
    kernel = np.where(indices >= 0, np.exp(-distances / bandwidth), 0)
    totals = np.bincount(memory.images[indices].ravel(), kernel.ravel())
    order = np.argsort(-totals, kind="stable")
    return Votes(order, totals[order] / totals.sum())


def draw(
    path: Path,
    memory: PixelMemory,
    memory_images: NDArray[np.float32],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    activations: NDArray[Any],
) -> Path:
    """Writes the picture, one row for each test image; returns `path`.

    Args:
        path: the PNG file.
        memory: holds the vectors of `memory_images`, in their order.
        memory_images: (m, 1, 8, 8), 0 to 1.
        images: test images to show (n, 1, 8, 8).
        labels: their true classes (n,).
        activations: their feature maps (n, channels, H, W).
    """
    log_likelihood = memory.log_likelihood(activations)
    rows = len(images)
    figure = Figure(figsize=(13, 1.35 * rows + 1.9), facecolor="white")
    grid = figure.add_gridspec(
        rows,
        _NEIGHBORS + 3,
        width_ratios=[1.15, 0.2, *[1] * _NEIGHBORS, 4.2],
        left=0.03,
        right=0.98,
        bottom=0.55 / (1.35 * rows + 1.9),
        top=1 - 1.55 / (1.35 * rows + 1.9),
        wspace=0.18,
        hspace=0.42,
    )
    classes = memory.labels[np.searchsorted(memory.images, np.arange(len(memory_images)))]
    for row in range(rows):
        prediction = int(log_likelihood[row].argmax())
        _draw_digit(figure.add_subplot(grid[row, 0]), images[row], *_verdict(int(labels[row]), prediction))
        nearest = votes(memory, activations[row])
        shown = zip(nearest.images[:_NEIGHBORS], nearest.shares, strict=False)
        for column, (image, share) in enumerate(shown):
            color = _RIGHT if classes[image] == labels[row] else _WRONG
            axes = figure.add_subplot(grid[row, 2 + column])
            _draw_digit(axes, memory_images[image], f"{classes[image]}   {share:.0%}", color)
        bars = figure.add_subplot(grid[row, -1])
        _draw_bars(bars, log_likelihood[row], int(labels[row]), last=row == rows - 1)
    _draw_headings(figure)
    write_atomically(path, to_png(figure))
    return path


def _verdict(label: int, prediction: int) -> tuple[str, str]:
    return f"a {label}, read as {prediction}", _RIGHT if label == prediction else _WRONG


def _draw_digit(axes: Axes, image: NDArray[np.float32], title: str, color: str) -> None:
    axes.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9.5, color=color, pad=4)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(color)
        spine.set_linewidth(1.6)


def _draw_bars(axes: Axes, log_likelihood: NDArray[np.float64], label: int, last: bool) -> None:
    share = np.exp(log_likelihood - log_likelihood.max())
    share /= share.sum()
    colors = [_OTHER] * len(share)
    colors[int(share.argmax())] = _WRONG
    colors[label] = _RIGHT
    axes.bar(range(len(share)), share, color=colors, width=0.75)
    for cls, height in enumerate(share):
        if height >= 0.01:
            axes.text(cls, height + 0.03, f"{height:.0%}", ha="center", fontsize=8, color=INK)
    axes.set_ylim(0, 1.22)
    axes.set_yticks([])
    axes.set_xticks(range(len(share)))
    axes.tick_params(axis="x", length=0, labelsize=8.5, colors=INK)
    axes.get_xticklabels()[label].set_fontweight("bold")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    if last:
        axes.set_xlabel("digit", fontsize=9, color=INK)


def _draw_headings(figure: Figure) -> None:
    """The title, a heading over each column and the legend, placed in inches from the top."""
    height = figure.get_figheight()

    def write(x: float, inches: float, text: str, size: float, weight: str = "normal") -> None:
        figure.text(x, 1 - inches / height, text, fontsize=size, fontweight=weight, color=INK, va="center")

    write(0.03, 0.32, "Handwritten digits, classified by nearest neighbours in a PixelMemory", 15, "bold")
    write(
        0.03,
        0.66,
        "Every pixel of a CNN layer asks for its 10 nearest stored vectors; nearer ones have more votes. "
        "The last two rows are the hardest held-out images.",
        10,
    )
    write(0.03, 1.08, "Test image", 11, "bold")
    write(0.175, 1.08, "Memory images with the most votes: digit, share", 11, "bold")
    write(0.645, 1.08, "Class likelihoods, scaled to add up to 100 %", 11, "bold")
    patches = [
        Patch(color=_RIGHT, label="true digit"),
        Patch(color=_WRONG, label="wrong digit"),
        Patch(color=_OTHER, label="other digits"),
    ]
    figure.legend(
        handles=patches,
        loc="upper right",
        ncols=3,
        fontsize=9,
        frameon=False,
        bbox_to_anchor=(0.985, 1 - 0.15 / height),
    )
