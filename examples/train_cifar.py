"""Train a small residual network with the hue loss, in plain torch: train_cifar.py DATA [EPOCHS].

DATA is a folder with `train` and `test`, each with a folder of images for each class. Where there is none,
CIFAR-10 is downloaded into it, by torchvision.
"""

import sys
from pathlib import Path

import torch
from kornia.augmentation import RandomCrop, RandomHorizontalFlip
from torch import nn

from pyhue.backbones import load_backbone
from pyhue.images import load_image, splits
from pyhue.nn import HueClassifier

SIZE, BATCH = 32, 128


def load(root):
    """Images (n, 3, 32, 32), 0 to 1, and classes (n,): first to train on, then to test on."""
    if (Path(root) / "train").is_dir():
        parts = splits(root)
        for part in (parts.train, parts.test):
            pixels = [torch.from_numpy(load_image(path, SIZE)) for path in part.paths]
            yield torch.stack(pixels), torch.from_numpy(part.labels)
    else:
        from torchvision.datasets import CIFAR10

        for train in (True, False):
            data = CIFAR10(root, train=train, download=True)
            yield torch.from_numpy(data.data).permute(0, 3, 1, 2) / 255, torch.tensor(data.targets)


def main(root, epochs="20"):
    """Trains on the images of `root`, prints loss and accuracy of every epoch."""
    torch.manual_seed(0)
    (images, targets), (test_images, test_targets) = load(root)
    backbone = load_backbone("resnet18-3x3-w16", image_size=SIZE)
    body = nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # hue_scale: the default, 1 / (2 C), makes the hue term nearly vanish
    model = HueClassifier(body, backbone.channels, int(targets.max()) + 1, hue_scale=1.0)
    augment = nn.Sequential(RandomHorizontalFlip(), RandomCrop((SIZE, SIZE), 4, padding_mode="reflect"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(epochs))
    for epoch in range(int(epochs)):
        model.train()
        for batch in torch.randperm(len(targets)).split(BATCH):
            optimizer.zero_grad()
            loss = model(augment(images[batch]), targets[batch])
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.inference_mode():
            predictions = torch.cat([model(part).argmax(1) for part in test_images.split(BATCH)])
        accuracy = (predictions == test_targets).double().mean()
        print(f"epoch {epoch + 1}: loss {loss:.3f}, test accuracy {accuracy:.1%}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
