"""Images among three axes of a network's output: the paper's first version, figure 2b.

    python experiments/class_axes.py int8.safetensors --weights mobilenetv2_imagenet_int8.npz --out axes.png

The output is that of MobileNetV2's own classifier for the 1,000 classes of ImageNet. Shown are the three
classes of images that the network knows best, each by the ImageNet class that it gives it most often, and
an image's place among the three outputs: their plane, seen along (1, 1, 1), where an image's angle is its
hue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import units
from matplotlib.figure import Figure
from numpy.typing import NDArray

import pyhue
from pyhue._figures import BLUE, GREEN, GRID, INK, MUTED, PALE, RED, to_png
from pyhue._files.atomic import write_atomically
from pyhue.descriptors import average


def outputs(data: units.Activations, weights: Path) -> NDArray[np.float64]:
    """The classifier's output (images, 1000) for the averages of the maps."""
    arrays = np.load(weights)
    matrix = arrays["w52"].astype(np.float64) * arrays["s52"]
    starts = range(0, len(data.maps), 256)
    vectors = np.concatenate([average(data.maps[at : at + 256]) for at in starts])
    return vectors @ matrix.T + arrays["b52"]


def known_best(found: NDArray[np.float64], labels: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    """For three classes of images: the class, the output largest most often, and for what part of its images.

    No output is taken twice.
    """
    top = found.argmax(axis=1)
    pairs = []
    for label in range(labels.max() + 1):
        counts = np.bincount(top[labels == label], minlength=found.shape[1])
        pairs.append((label, int(counts.argmax()), float(counts.max() / counts.sum())))
    pairs.sort(key=lambda pair: -pair[2])
    chosen: list[tuple[int, int, float]] = []
    for pair in pairs:
        if pair[1] not in [other for _, other, _ in chosen]:
            chosen.append(pair)
    return chosen[:3]


def main() -> None:
    """Draws the picture and prints what the angles say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("activations", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--names", type=Path, help="a line for each output: its name last")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = units.load(options.activations)
    found = outputs(data, options.weights)
    chosen = known_best(found, data.labels)
    names = [line.split()[-1] for line in options.names.read_text().splitlines()] if options.names else None
    axes3 = found[:, [output for _, output, _ in chosen]]
    hue = pyhue.activation_hue(axes3)
    phi = 2 * np.pi * np.arange(3) / 3
    points = axes3 @ np.stack([np.cos(phi), np.sin(phi)], axis=1)

    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    axes = figure.subplots()
    others = ~np.isin(data.labels, [label for label, _, _ in chosen])
    axes.scatter(*points[others].T, s=3, color=PALE, label="images of the other classes")
    reach = 1.12 * np.linalg.norm(points, axis=1).max()
    for (label, output, share), angle, color in zip(chosen, phi, (RED, GREEN, BLUE), strict=True):
        name = names[output].replace("_", " ") if names else f"output {output}"
        axes.plot([0, reach * np.cos(angle)], [0, reach * np.sin(angle)], color=MUTED, linewidth=0.8)
        axes.annotate(
            name,
            (reach * np.cos(angle), reach * np.sin(angle)),
            color=INK,
            ha="center",
            va="bottom",
            fontsize=9,
        )
        own = data.labels == label
        axes.scatter(*points[own].T, s=9, color=color, label=f"images of class {label}: {own.sum()}")
        off = np.degrees(np.angle(np.exp(1j * (hue[own] - angle))))
        within = (np.abs(off) < 60).mean()
        print(
            f"class {label}: {name} first for {share:.0%}; nearest axis for {within:.0%}; "
            f"median |angle off| {np.median(np.abs(off)):.1f} degrees"
        )
    spread = np.degrees(np.abs(np.angle(np.exp(1j * 3 * hue[others]))) / 3)
    print(f"other images: median distance to the nearest axis {np.median(spread):.1f} degrees, by chance 30")
    axes.set_aspect("equal")
    axes.set_title("Images among three outputs, seen along their medial axis", fontsize=11)
    axes.spines[:].set_color(GRID)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    write_atomically(options.out, to_png(figure))


if __name__ == "__main__":
    main()
