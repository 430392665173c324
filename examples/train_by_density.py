"""Train a network by its memory: the loss is the density of its own activations of labelled images.

Every epoch one half of the images is put into a memory, as the network sees them now, and the network learns
from the other half that like finds like; then they change places: an image that finds itself has nothing to
learn. Beside it the same network learns by cross-entropy behind a linear layer.
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pyhue import PixelMemory
from pyhue.nn.functional import pixel_density

K = 10
EPS = 0.05  # a tenth or so of a typical squared distance: see docs/density.md
LEAST = -12.0  # log-likelihood of a class that no neighbour votes for, below every other


def network(channels: int = 32) -> nn.Sequential:
    """Images (n, 1, 8, 8) to feature maps (n, channels, 4, 4)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
    )


@torch.no_grad()
def remember(body: nn.Module, images: Tensor, labels: Tensor) -> PixelMemory:
    """A memory of what the network makes of images now."""
    body.eval()
    maps = body(images)
    body.train()
    memory = PixelMemory(dim=maps.shape[1])
    memory.add(maps, labels)
    return memory


def train(images: Tensor, labels: Tensor, epochs: int, by_density: bool) -> tuple[nn.Module, nn.Module]:
    """The network and its classifier, which the density does not train."""
    body = network()
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    parameters = [*body.parameters(), *([] if by_density else head.parameters())]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * epochs)
    halves = torch.randperm(len(images)).chunk(2)
    for half in range(2 * epochs):
        asked, stored = (halves[(half + i) % 2] for i in range(2))
        memory = remember(body, images[stored], labels[stored]) if by_density else None
        for batch in asked[torch.randperm(len(asked))].split(64):
            maps = body(images[batch])
            votes = memory and pixel_density(maps, memory, K, EPS).clamp(min=LEAST)
            logits = head(maps) if votes is None else votes
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return body.eval(), head.eval()


def accuracies(seed: int, epochs: int, known: int) -> dict[str, float]:
    """Shares of the other digits that are classified right, in percent."""
    torch.manual_seed(seed)
    digits = load_digits()
    images, labels = torch.from_numpy(digits.images).float()[:, None] / 16, torch.from_numpy(digits.target)
    order = torch.randperm(len(images))
    (images, labels), right = (images[order], labels[order]), {}
    for name, by_density in (("density", True), ("cross-entropy", False)):
        body, head = train(images[:known], labels[:known], epochs, by_density)
        memory = remember(body, images[:known], labels[:known])
        with torch.no_grad():
            maps = body.eval()(images[known:])
            found = {f"{name}, by memory": memory.predict(maps, K, EPS)}
            if not by_density:
                found[f"{name}, by its layer"] = head(maps).argmax(1)
        right |= {how: 100 * (y == labels[known:]).float().mean().item() for how, y in found.items()}
    body = network()
    memory = remember(body, images[:known], labels[:known])
    with torch.no_grad():
        y = memory.predict(body.eval()(images[known:]), K, EPS)
    return right | {"not trained, by memory": 100 * (y == labels[known:]).float().mean().item()}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--known", type=int, default=600, help="digits to learn from, of 1,797")
arguments = parser.parse_args()

runs = [accuracies(seed, arguments.epochs, arguments.known) for seed in range(arguments.seeds)]
for how in runs[0]:
    values = torch.tensor([run[how] for run in runs])
    spread = values.std().item() if len(values) > 1 else 0.0
    print(f"{how:28} {values.mean():5.1f} % (standard deviation {spread:.1f} of {len(values)} seeds)")
