"""PatchCore's memory bank without a coreset: how far an image's patches are from all normal ones.

    pyhue features IMAGES --backbone torchvision:wide_resnet50_2 --pretrained --out features.safetensors
    python anomaly_memory.py features.safetensors --normal CLASS --images IMAGES --out anomalies.png

One class is normal. Every second of its images fills the memory; the others of it, and the images of all
other classes, are scored by their patch of largest distance to its nearest stored patch (Roth et al.,
"Towards total recall in industrial anomaly detection", 2022, without the re-weighting of equation 7). A
patch is the mean of 3 x 3 pixel vectors. The picture shows maps of distances over the images.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from pyhue import VectorMemory, pixel_vectors
from pyhue.features import load_features

matplotlib.use("agg")
import matplotlib.pyplot as plt


def patches(activations):
    """(images, H x W, channels) float32: each pixel vector averaged with its neighbours that are there."""
    maps = np.pad(np.asarray(activations, np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)))
    ones = np.pad(np.ones(activations.shape[2:], np.float32), 1)
    height, width = activations.shape[2:]
    windows = [np.s_[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    total, count = sum(maps[window] for window in windows), sum(ones[window] for window in windows)
    return pixel_vectors(total / count)


def distance_maps(memory, activations, at_once=256):
    """(images, H, W) float32: the distance of each patch to the nearest stored one."""
    found = []
    for begin in range(0, len(activations), at_once):
        distances, _ = memory.search(patches(activations[begin : begin + at_once]), k=1)
        found.append(np.sqrt(distances).reshape(-1, *activations.shape[2:]))
    return np.concatenate(found)


def draw(out, maps, pictures, titles, scale):
    """Images, and over each its map of distances, from `scale[0]` to `scale[1]`."""
    figure, axes = plt.subplots(
        2, len(maps), figsize=(2 * len(maps), 4.4), layout="constrained", squeeze=False
    )
    for column, (map_, picture, title) in enumerate(zip(maps, pictures, titles, strict=True)):
        for row in range(2):
            if picture is not None:
                axes[row, column].imshow(picture, extent=(0, 1, 0, 1))
            axes[row, column].set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), aspect="equal")
        heat = axes[1, column].imshow(
            map_, cmap="inferno", alpha=0.6, extent=(0, 1, 0, 1), interpolation="bicubic"
        )
        heat.set_clim(*scale)
        axes[0, column].set_title(title, fontsize=8)
    figure.colorbar(heat, ax=axes, label="distance to the nearest normal patch")
    figure.savefig(out, dpi=110)


def picture(folder, name, size):
    """The square of the image that the network saw; None without a folder."""
    if folder is None:
        return None
    with Image.open(folder / name) as image:
        shorter = min(image.size)
        left, top = ((side - shorter) // 2 for side in image.size)
        return image.convert("RGB").crop((left, top, left + shorter, top + shorter)).resize((size, size))


def main():
    """Prints the area under the curve and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", help="a file of `pyhue features`")
    parser.add_argument("--normal", required=True, help="the normal class")
    parser.add_argument("--images", type=Path, help="the folder that the features are of")
    parser.add_argument("--out", default="anomalies.png", help="the picture")
    options = parser.parse_args()
    features = load_features(options.features)
    if options.normal not in features.classes:
        parser.error(f"--normal: expected one of {', '.join(features.classes)}")
    normal = features.labels == features.classes.index(options.normal)
    stored, others = np.flatnonzero(normal)[::2], np.flatnonzero(normal)[1::2]
    asked = np.concatenate((others, np.flatnonzero(~normal)))

    memory = VectorMemory(features.activations.shape[1], normalize=False)
    memory.add(patches(features.activations[stored]).reshape(-1, memory.dim))
    maps = distance_maps(memory, features.activations[asked])
    scores = maps.max(axis=(1, 2))
    auc = roc_auc_score(~normal[asked], scores)
    print(f"memory: {len(memory)} patches of {len(stored)} images of {options.normal}")
    print(f"asked: {len(others)} normal images, {len(asked) - len(others)} others")
    print(f"area under the curve: {auc:.4f}")

    order = np.argsort(scores)
    shown = np.concatenate(
        (order[np.isin(order, np.arange(len(others)))][[0, -1]], order[[-1, -len(order) // 2]])
    )
    size = features.source["image_size"]
    pictures = [picture(options.images, features.names[asked[row]], size) for row in shown]
    titles = [f"{features.classes[features.labels[asked[row]]]}\nscore {scores[row]:.1f}" for row in shown]
    draw(options.out, maps[shown], pictures, titles, np.quantile(maps, (0.01, 0.99)))
    print(f"picture: {options.out}")


if __name__ == "__main__":
    main()
