"""Draw which pixels of handwritten digits spoke for their class: python votes_of_pixels.py [OUT.png]."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

from pyhue import PixelMemory
from pyhue.observe import votes
from pyhue.observe.plots import plot_votes

torch.manual_seed(0)
digits = load_digits()
images, labels = torch.from_numpy(digits.images).float()[:, None] / 16, torch.from_numpy(digits.target)
known, shown = slice(0, 1400), slice(1400, 1410)

# Not trained: the memory does the work.
body = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1)
)
memory = PixelMemory(dim=64)
with torch.no_grad():
    memory.add(body(images[known]), labels[known])
    maps = body(images[shown])

predicted = memory.predict(maps)
titles = [f"{label}, taken for {found}" for label, found in zip(labels[shown], predicted, strict=True)]
out = sys.argv[1] if len(sys.argv) > 1 else "votes.png"
plot_votes(list(images[shown, 0].numpy()), votes(maps, memory), titles).savefig(out, dpi=110)
print(f"{out}: accuracy on these {len(predicted)} digits {(predicted == labels[shown]).float().mean():.1f}")
