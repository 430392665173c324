"""The hue loss in several processes: distributed training, and the workers of a data loader."""

import faulthandler
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import pyhue.nn as hue_nn
from pyhue import PixelMemory
from pyhue.nn.functional import hue_cross_entropy, hue_labels


def two_processes(work, folder):
    """Runs work(rank, folder) of this module in two processes that share a gloo group.

    A process that hangs prints where, and ends. `plain_step`, torch alone, aborts in one run of eight with a
    thread that nobody joined: only that gets two more attempts."""
    for _ in range(3):
        run = one_attempt(work, folder)
        if "terminate called without an active exception" not in run.stderr:
            break
    return run


def one_attempt(work, folder):
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import torch, test_nn_processes\n"
        "if __name__ == '__main__':\n"
        f"    arguments = ({work.__name__!r}, {store.port}, {str(folder)!r})\n"
        "    torch.multiprocessing.spawn(test_nn_processes.in_group, arguments, 2)\n"
    )
    script = folder / "spawn.py"
    script.write_text(code)
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=180)


def in_group(rank, work, port, folder):
    faulthandler.dump_traceback_later(120, exit=True)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = torch.distributed.TCPStore("127.0.0.1", port)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    globals()[work](rank, folder)
    torch.distributed.destroy_process_group()


def plain_step(rank, folder):
    """A step of torch alone: what the machine has to be able to do."""
    layer = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
    layer(torch.ones(4, 3)).sum().backward()


def hue_step(rank, folder):
    head = nn.parallel.DistributedDataParallel(one_head())
    features, target, criterion = one_step()
    rows = slice(4 * rank, 4 * rank + 4)
    criterion(*head(features[rows]), target[rows]).backward()
    if rank == 0:
        torch.save([parameter.grad for parameter in head.parameters()], f"{folder}/gradients.pt")


def density_step(rank, folder):
    model = nn.parallel.DistributedDataParallel(one_density_model())
    images, target = torch.arange(48.0).reshape(8, 2, 3).cos(), torch.arange(8) % 3
    rows = slice(4 * rank, 4 * rank + 4)
    nn.functional.cross_entropy(model(images[rows]), target[rows]).backward()
    if rank == 0:
        torch.save([parameter.grad for parameter in model.parameters()], f"{folder}/gradients.pt")


def one_density_model():
    """A layer whose outputs, two pixels of three channels, are compared with all that a memory stores."""
    torch.manual_seed(0)
    memory = PixelMemory(3)
    memory.add(torch.randn(6, 2, 3), torch.arange(6) % 3)
    return nn.Sequential(nn.Linear(3, 3), hue_nn.MemoryClassifier(memory, 12, 0.1, differentiable=True))


def one_head():
    torch.manual_seed(0)
    return hue_nn.HueHead(6, 5)


def one_step():
    generator = torch.Generator().manual_seed(1)
    labels = hue_labels(5, generator=generator)
    features = torch.randn(8, 6, generator=generator)
    target = torch.randint(5, (8,), generator=generator)
    return features, target, hue_nn.HueCrossEntropyLoss(5, labels=labels, softcap=5.0, lse_square_scale=0.1)


@pytest.mark.usefixtures("gloo")
def test_two_distributed_processes_take_the_step_of_one(tmp_path):
    run = two_processes(hue_step, tmp_path)
    assert run.returncode == 0, run.stderr
    head = one_head()
    features, target, criterion = one_step()
    criterion(*head(features), target).backward()
    theirs = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for parameter, gradient in zip(head.parameters(), theirs, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.usefixtures("gloo")
def test_two_distributed_processes_take_the_density_step_of_one(tmp_path):
    run = two_processes(density_step, tmp_path)
    assert run.returncode == 0, run.stderr
    model = one_density_model()
    images, target = torch.arange(48.0).reshape(8, 2, 3).cos(), torch.arange(8) % 3
    nn.functional.cross_entropy(model(images), target).backward()
    theirs = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for parameter, gradient in zip(model.parameters(), theirs, strict=True):
        assert gradient.any()
        torch.testing.assert_close(parameter.grad, gradient)


class LossDataset(torch.utils.data.Dataset):
    """Losses of enough logits that two threads share them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        input, hue = torch.randn(64, 1000, generator=generator), torch.randn(64, 2, generator=generator)
        target = torch.randint(1000, (64,), generator=generator)
        return hue_cross_entropy(input, hue, target, hue_labels(1000, generator=generator))


def test_in_forked_data_loader_workers():
    expected = [LossDataset()[i].item() for i in range(4)]
    loader = torch.utils.data.DataLoader(
        LossDataset(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=180
    )
    assert [loss.item() for loss in loader] == expected
