"""Train a classifier of handwritten digits with the hue loss."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from pyhue.nn import HueClassifier

torch.manual_seed(0)
digits = load_digits()
images, targets = torch.from_numpy(digits.images).float() / 16, torch.from_numpy(digits.target)
train, test = slice(0, 1400), slice(1400, None)

model = HueClassifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU()), 128, num_classes=10)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(20):
    for batch in torch.randperm(1400).split(64):
        optimizer.zero_grad()
        loss = model(images[train][batch], targets[train][batch])  # without targets: the logits
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    logits = model(images[test])
correct = (logits.argmax(1) == targets[test]).float().mean()
print(f"accuracy on the last {len(images[test])} digits: {correct:.3f}")
