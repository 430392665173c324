"""The hue loss inside torch's workflows: operator checks, compilation, export, transforms, training."""

import copy
import faulthandler
import io
import os
import subprocess
import sys

import pytest
import torch
import torch._dynamo.testing
import torch.autograd.forward_ad as forward_ad
from hue_reference import reference_hue_cross_entropy
from torch import nn
from torch.utils.checkpoint import checkpoint

import pyhue.nn as hue_nn
from pyhue.nn.functional import hue_cross_entropy, hue_labels


def example(rows=4, classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(rows, classes, dtype=dtype, generator=generator, requires_grad=True)
    hue = torch.randn(rows, 2, dtype=dtype, generator=generator, requires_grad=True)
    labels = hue_labels(classes, generator=generator).to(dtype)
    return input, hue, torch.randint(classes, (rows,), generator=generator), labels


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("reduction", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype, reduction, gradients):
    input, hue, target, labels = (t.detach() for t in example(dtype=dtype))
    options = (1.0, 0.1, -100, reduction, 0.1, gradients, gradients)
    for weight in (None, torch.rand(5, dtype=dtype)):
        row_weight = None if weight is None else torch.rand(4, dtype=dtype)
        arguments = (input, hue, target, labels, weight, row_weight, *options)
        torch.library.opcheck(torch.ops.pyhue.hue_cross_entropy.default, arguments)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"weight": torch.linspace(0.5, 2, 5)}])
def test_gradcheck(reduction, probabilities, options):
    input, hue, target, labels = example()
    if probabilities:
        target = torch.rand(4, 5, dtype=torch.float64).softmax(1)
    labels.requires_grad_()

    def loss(input, hue, labels):
        return hue_cross_entropy(input, hue, target, labels, hue_scale=2.0, reduction=reduction, **options)

    assert torch.autograd.gradcheck(loss, (input, hue, labels))


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_double_backward_says_no(reduction):
    input, hue, target, labels = example()
    loss = hue_cross_entropy(input, hue, target, labels, reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(loss, input, create_graph=True)
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(gradient.square().sum(), input)


def test_double_backward_of_transforms_says_no():
    input, hue, target, labels = (t.detach() for t in example())

    def gradient_norm(input):
        gradient = torch.func.grad(lambda x: hue_cross_entropy(x, hue, target, labels))(input)
        return gradient.square().sum()

    with pytest.raises(RuntimeError, match="no double backward"):
        torch.func.grad(gradient_norm)(input)


# torch's forward mode uses torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_says_no():
    input, hue, target, labels = (t.detach() for t in example())
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(input, torch.ones_like(input))
        with pytest.raises(NotImplementedError, match="jvp"):
            hue_cross_entropy(dual, hue, target, labels)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
        torch.func.jvp(lambda x: hue_cross_entropy(x, hue, target, labels), (input,), (input,))


# torch.compile instantiates autograd functions, which warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compile_without_breaks_or_recompilation(reduction):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, dynamic=True, backend=counter)
    def loss(input, hue, target, labels):
        return 2 * hue_cross_entropy(input, hue, target, labels, reduction=reduction).sum()

    for rows in (4, 7, 12):
        input, hue, target, labels = example(rows, dtype=torch.float32)
        compilations = counter.frame_count
        compiled = loss(input, hue, target, labels)
        plain = 2 * hue_cross_entropy(input, hue, target, labels, reduction=reduction).sum()
        torch.testing.assert_close(compiled, plain)
        for ours, theirs in zip(
            torch.autograd.grad(compiled, (input, hue)), torch.autograd.grad(plain, (input, hue)), strict=True
        ):
            torch.testing.assert_close(ours, theirs)
        assert rows == 4 or counter.frame_count == compilations


# torch.compile instantiates autograd functions, and inductor uses torch.jit: both warn.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compile_with_inductor():
    torch._dynamo.reset()
    head = hue_nn.HueHead(6, 5)
    criterion = hue_nn.HueCrossEntropyLoss(5)
    features, target = torch.randn(8, 6), torch.randint(5, (8,))

    def step():
        return criterion(*head(features), target)

    compiled = torch.compile(step, fullgraph=True)()
    torch.testing.assert_close(compiled, step())
    compiled.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_export_and_run():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = hue_nn.HueHead(6, 5)
            self.loss = hue_nn.HueCrossEntropyLoss(5)

        def forward(self, features, target):
            return self.loss(*self.head(features), target)

    step = Step()
    batch = torch.export.Dim("batch", min=2)
    arguments = (torch.randn(3, 6), torch.randint(5, (3,)))
    program = torch.export.export(step, arguments, dynamic_shapes=({0: batch}, {0: batch}))
    for rows in (3, 9):
        features, target = torch.randn(rows, 6), torch.randint(5, (rows,))
        torch.testing.assert_close(program.module()(features, target), step(features, target))


@pytest.mark.parametrize("function", [hue_cross_entropy, reference_hue_cross_entropy])
def test_functional_transforms(function):
    input, hue, target, labels = (t.detach() for t in example())

    def loss(input, hue, target):
        return function(input, hue, target, labels)

    samples = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(input, hue, target)
    together = torch.func.grad(lambda x, h: torch.func.vmap(loss)(x, h, target).sum(), argnums=(0, 1))(
        input, hue
    )
    per_row = torch.func.jacrev(lambda x: function(x, hue, target, labels, reduction="none"))(input)
    leaves = [t.clone().requires_grad_() for t in (input, hue)]
    expected = torch.autograd.grad(
        reference_hue_cross_entropy(*leaves, target, labels, reduction="sum"), leaves
    )
    for ours, theirs in zip(samples, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(together, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(per_row.diagonal(dim1=0, dim2=1).T, expected[0])


def test_vmap_over_labels():
    input, hue, target, labels = (t.detach() for t in example())
    members = torch.stack((labels, -labels))
    losses = torch.func.vmap(lambda labels: hue_cross_entropy(input, hue, target, labels))(members)
    expected = [hue_cross_entropy(input, hue, target, labels) for labels in members]
    torch.testing.assert_close(losses, torch.stack(expected))


def test_autocast_gives_a_float32_loss():
    head, features, target = hue_nn.HueHead(6, 5), torch.randn(8, 6), torch.randint(5, (8,))
    criterion = hue_nn.HueCrossEntropyLoss(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, hue = head(features)
        loss = criterion(logits, hue, target)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, criterion(logits.float(), hue.float(), target))
    loss.backward()
    assert head.classifier.weight.grad.dtype == torch.float32


def test_checkpointing():
    head, features, target = hue_nn.HueHead(6, 5), torch.randn(8, 6), torch.randint(5, (8,))
    criterion = hue_nn.HueCrossEntropyLoss(5)
    gradients = []
    for run in (lambda f, *args: f(*args), lambda f, *args: checkpoint(f, *args, use_reentrant=False)):
        loss = run(lambda features: criterion(*head(features), target), features)
        gradients.append(torch.autograd.grad(loss, list(head.parameters())))
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


def test_state_dict_round_trip():
    first, second = (hue_nn.HueCrossEntropyLoss(9, weight=torch.rand(9)) for _ in range(2))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    arguments = (torch.randn(4, 9), torch.randn(4, 2), torch.tensor([0, 3, 8, 1]))
    assert torch.equal(first(*arguments), second(*arguments))
    assert torch.equal(copy.deepcopy(first)(*arguments), first(*arguments))


def two_processes(work, folder):
    """Runs work(rank, folder) of this module in two processes that share a gloo group.

    A process that hangs prints where, and ends."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import torch, test_nn_torch\n"
        "if __name__ == '__main__':\n"
        f"    arguments = ({work.__name__!r}, {store.port}, {str(folder)!r})\n"
        "    torch.multiprocessing.spawn(test_nn_torch.in_group, arguments, 2)\n"
    )
    script = folder / "spawn.py"
    script.write_text(code)
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)


def in_group(rank, work, port, folder):
    faulthandler.dump_traceback_later(60, exit=True)
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


def one_head():
    torch.manual_seed(0)
    return hue_nn.HueHead(6, 5)


def one_step():
    generator = torch.Generator().manual_seed(1)
    labels = hue_labels(5, generator=generator)
    features = torch.randn(8, 6, generator=generator)
    target = torch.randint(5, (8,), generator=generator)
    return features, target, hue_nn.HueCrossEntropyLoss(5, labels=labels)


@pytest.fixture
def gloo(tmp_path):
    torch_alone = two_processes(plain_step, tmp_path)
    if torch_alone.returncode:
        pytest.skip(f"no gloo step of torch alone here: {torch_alone.stderr[-2000:]}")


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


class LossDataset(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        features, target, criterion = one_step()
        return criterion(*one_head()(features * index), target).detach()


def test_in_forked_data_loader_workers():
    expected = [LossDataset()[i].item() for i in range(4)]
    loader = torch.utils.data.DataLoader(
        LossDataset(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    assert [loss.item() for loss in loader] == expected
