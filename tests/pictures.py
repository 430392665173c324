"""Tiny data sets for the tests of training: noise of one colour for each class."""

import numpy as np
from PIL import Image

COLORS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 50, 40)}


def write_pictures(root, count, classes=tuple(COLORS), size=18, seed=0):
    """Writes `count` PNG files for each class below `root`, which is returned."""
    random = np.random.default_rng(seed)
    for name in classes:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = random.normal(0, 40, (size, size + 4, 3))
            pixels = np.clip(noise + COLORS[name], 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return root


def write_split_pictures(root, train=8, val=0, test=4):
    """Writes a data set that is divided into `train`, `test` and, unless it is 0, `val`."""
    for number, (part, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        if count:
            write_pictures(root / part, count, seed=number)
    return root
