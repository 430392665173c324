"""A network that asks a memory in its forward pass, compiled as one graph."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pyhue import PixelMemory
from pyhue.nn import MemoryClassifier


class NetworkWithMemory(nn.Module):
    """Class probabilities of a memory that holds the network's own activations of labelled images."""

    def __init__(self, body: nn.Module, memory: PixelMemory):
        super().__init__()
        self.body, self.density = body, MemoryClassifier(memory, k=10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, 8, 8) to probabilities (n, classes)."""
        return self.density(self.body(images)).softmax(dim=1)


torch.manual_seed(0)
digits = load_digits()
images, labels = torch.from_numpy(digits.images).float()[:, None] / 16, torch.from_numpy(digits.target)
order = torch.randperm(len(images))
known, asked = order[:1400], order[1400:]

body = nn.Sequential(nn.Conv2d(1, 64, 3), nn.ReLU(), nn.MaxPool2d(2))  # not trained: the memory does the work
memory = PixelMemory(dim=64)
with torch.no_grad():
    memory.add(body(images[known]), labels[known])
    model = NetworkWithMemory(body, memory).eval()
    compiled = torch.compile(model, fullgraph=True)
    probabilities = compiled(images[asked])
    assert torch.equal(probabilities.argmax(dim=1), model(images[asked]).argmax(dim=1))
accuracy = (probabilities.argmax(dim=1) == labels[asked]).float().mean()
print(f"{memory!r}\naccuracy on {len(asked)} other digits: {accuracy:.3f}")
