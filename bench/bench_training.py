"""A step of training as pyhue train takes it, and flips and crops alone, on one thread.

Run: make bench, or: python -m pytest bench/bench_training.py --benchmark-only -s -o python_files='bench_*.py'
64 images of 64 pixels, 101 classes; medians. The backbones take turns of one step in one process.
"""

import statistics
import time

import pytest
import torch

from pyhue._runs.config import TrainConfig
from pyhue.training.augment import augmentation
from pyhue.training.model import Classifier, Loss

BATCH, SIZE, CLASSES = 64, 64, 101
BACKBONES = ("resnet18", "resnet18-w16", "resnet18-3x3-w16")


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def step(backbone, amp):
    """Forward, backward and update of a new network."""
    config = TrainConfig(data="", backbone=backbone, image_size=SIZE, amp=amp)
    model = Classifier(config, CLASSES).to(memory_format=torch.channels_last)
    loss = Loss(config, CLASSES, 0, torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    images = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    target = torch.randint(CLASSES, (BATCH,))

    def call():
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits, hue = model(images)
        value = loss(logits, hue, target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        assert value.isfinite()

    return call


def test_step(benchmark, report, one_thread):
    torch.manual_seed(0)
    augment, images = augmentation(SIZE), torch.rand(BATCH, 3, SIZE, SIZE)
    calls = {(name, amp): step(name, amp) for name in BACKBONES for amp in (False, True)}
    calls["flips and crops", False] = lambda: augment(images)
    times = {key: [] for key in calls}
    for call in calls.values():
        call()
    for _ in range(7):
        for key, call in calls.items():
            begin = time.perf_counter()
            call()
            times[key].append(1e3 * (time.perf_counter() - begin))
    benchmark.pedantic(calls["resnet18-w16", False], rounds=1)
    for (name, amp), milliseconds in times.items():
        median, least, most = statistics.median(milliseconds), min(milliseconds), max(milliseconds)
        report(f"{name}{', --amp' if amp else ''}: {median:.0f} ({least:.0f}-{most:.0f}) ms")
