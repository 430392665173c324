"""`--weights FILE`: which files are taken, and what the error says of every other one."""

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file
from torch import nn

from pyhue._runs.config import TrainConfig
from pyhue.backbones import load_backbone

NAME = "resnet18-w2"


class Masked(nn.Module):
    """A network with a buffer that is a mask, and one that counts."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 4, 4)
        self.register_buffer("mask", torch.tensor([-torch.inf, torch.inf]))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x):
        return self.maps(x)


@pytest.fixture
def state():
    torch.manual_seed(5)
    return load_backbone(NAME, image_size=32).body.state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.weights"


def takes(path, state):
    body = load_backbone(NAME, image_size=32, weights=path).body
    for name, value in body.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def refuses(path, what, name=NAME):
    with pytest.raises(ValueError, match=what) as raised:
        load_backbone(name, image_size=32, weights=path)
    message = str(raised.value)
    assert message.count(str(path)) == 1
    assert "\n" not in message
    assert "weights_only" not in message


@pytest.mark.parametrize("name", ["a", "a.safetensors", "a.SAFETENSORS", "a.pt", "model.bin"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_files_content_says_what_it_is(tmp_path, state, name, kind):
    path = tmp_path / name
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    takes(path, state)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "backbone.", "model.", "module._orig_mod.", "net.0.", "layers."]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_all_names_begin_with_is_taken_off(path, state, prefix, wrapped):
    named = {prefix + name: value for name, value in state.items()}
    torch.save({"state_dict": named, "epoch": 3} if wrapped else named, path)
    takes(path, state)


def test_a_prefix_of_some_names_stays(path, state):
    named = {"module." + name: value for name, value in state.items()}
    torch.save(named | {"head.weight": torch.ones(2)}, path)
    refuses(path, r"has no layers\.0\.weight and \d+ more$")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "epoch": 3},
        lambda state: {"model_ema": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {0: state, "loss": torch.tensor(0.5), "args": {"lr": 0.1}},
    ],
)
def test_the_one_dictionary_of_tensors_in_a_checkpoint_is_taken(path, state, wrap):
    torch.save(wrap(state), path)
    takes(path, state)


@pytest.mark.parametrize("names", [("teacher", "student"), ("model", "ema"), ("state_dict", "best")])
def test_several_sets_of_weights_are_named(path, state, names):
    torch.save({name: state for name in names} | {"epoch": 3}, path)
    refuses(path, f"several sets of weights: {', '.join(names)}; save one of them alone$")


def test_sets_of_weights_further_inside_are_named_too(path, state):
    torch.save({"model": state, "ema": {"module": state}}, path)
    refuses(path, "several sets of weights: model, ema/module;")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty$"),
        (b"hello, this is a text and no file of weights", "neither a safetensors file nor what torch.save"),
        (b"somewhat{", "neither a safetensors file nor what torch.save"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "a pointer of Git LFS"),
    ],
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_is_no_file_of_weights(tmp_path, name, content, what):
    path = tmp_path / name
    path.write_bytes(content)
    refuses(path, what)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_truncated_files(path, state, kind, kept):
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    refuses(path, "is truncated or damaged|or is damaged")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "it has no weights$"),
        ([1, 2], "got list$"),
        (torch.zeros(3), "got Tensor$"),
        ({"state_dict": {}}, "not what is called state_dict$"),
    ],
)
def test_what_holds_no_weights(path, content, what):
    torch.save(content, path)
    refuses(path, what)


def test_of_torchs_paragraphs_the_first_line_is_told(path, state, monkeypatch):
    torch.save(state, path)

    def load(*arguments, **options):
        raise RuntimeError("the cause\nand a paragraph")

    monkeypatch.setattr(torch, "load", load)
    refuses(path, "is truncated or damaged: the cause$")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_network(path):
    torch.jit.save(torch.jit.trace(nn.Identity(), torch.ones(1)), path)
    refuses(path, "it holds a TorchScript network; expected tensors")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda value: value.int(), r"has torch\.int32 as layers\.0\.weight, expected torch\.float32$"),
        (lambda value: value * torch.nan, r"has NaN or infinite values in layers\.0\.weight$"),
        (lambda value: value - torch.inf, r"has NaN or infinite values in layers\.0\.weight$"),
        (lambda value: value.double() * 1e300, r"has NaN or infinite values in layers\.0\.weight$"),
    ],
)
def test_tensors_that_are_no_weights_are_named(path, state, change, what):
    torch.save(state | {"layers.0.weight": change(state["layers.0.weight"])}, path)
    refuses(path, what)


def test_statistics_that_are_no_numbers_are_named(path, state):
    torch.save(state | {"layers.1.running_var": torch.full((2,), torch.nan)}, path)
    refuses(path, r"has NaN or infinite values in layers\.1\.running_var$")


def test_weights_of_16_bits_masks_and_counts_are_taken(path, state, tmp_path, monkeypatch):
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(halves, path)
    takes(path, {name: value.to(state[name].dtype) for name, value in halves.items()})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyhue.backbones.load.from_factory", lambda source, factory: Masked())
    torch.save(Masked().state_dict(), path)
    assert load_backbone("some:masked", image_size=32, weights=path).channels == 4


@pytest.fixture
def fold(tmp_path):
    """The folder of a trained network."""
    folder = tmp_path / "seed-0" / "fold-0"
    folder.mkdir(parents=True)
    backbone = load_backbone(NAME, image_size=32)
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    torch.save(state, folder / "model.pt")
    (tmp_path / "config.json").write_text(TrainConfig("images", backbone=NAME, image_size=32).to_json())
    return folder


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("config.json", b"{", "not the options of a run"),
        ("config.json", b"\xff", "can't decode byte"),
        ("config.json", b'{"data": "x", "backbone": "resnet19"}', "backbone: expected resnet18"),
        ("seed-0/fold-0/model.pt", b"", "it is empty"),
        ("seed-0/fold-0/model.pt", b"PK\3\4 and no more", "it is truncated or damaged"),
        ("seed-0/fold-0/model.pt", [1], "got list"),
        ("seed-0/fold-0/model.pt", {"backbone.x": torch.ones(1)}, r"has no body\.layers\.0\.weight and"),
        ("seed-0/fold-0/model.pt", torch.nan, "has NaN or infinite values in body"),
    ],
)
def test_the_damaged_file_of_a_run_is_named(tmp_path, fold, file, content, what):
    path = tmp_path / file
    if content is torch.nan:
        content = {name: value * torch.nan for name, value in torch.load(path).items()}
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=what) as raised:
        load_backbone(str(fold), image_size=32)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)


def test_a_run_without_its_options(tmp_path, fold):
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_backbone(str(fold), image_size=32)
