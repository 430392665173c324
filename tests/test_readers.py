"""Whatever is done to a file that a command reads, the command reads it or names it: no other error."""

import contextlib
import io
import json
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

import torch
from pictures import write_pictures, write_split_pictures
from safetensors.torch import save

from pyhue import _cli
from pyhue._runs.config import TrainConfig
from pyhue._runs.results import load_run
from pyhue._stderr import progress_bar
from pyhue.backbones import load_backbone
from pyhue.features import load_features
from pyhue.training import checkpoint
from pyhue.training import fold as fold_module
from pyhue.training.data import DataSet
from pyhue.training.run import train
from pyhue.training.workers import Workers

OPTIONS = ["--backbone", "resnet18-3x3-w2", "--image-size", "16"]
NUMBERS = [True, -1, 0, 1, 3, 1.5, 1e308, float("inf"), float("nan"), 2**70, -(2**63)]
UGLY = st.sampled_from([*NUMBERS, None, "", "x", "\udcff", "1", [], {}, [[]], [1], ["x"], [None], {"a": 1}])
BYTES = st.sampled_from([0, 9, 10, 32, 34, 44, 45, 46, 48, 49, 57, 91, 93, 101, 123, 125, 127, 195, 255])


def mutated_bytes(data, content, within):
    """Some of the first `within` bytes replaced, put in or taken out, or the end cut off."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        if not content:  # nothing is left to change
            break
        place = data.draw(st.integers(0, min(within, len(content)) - 1))
        kind = data.draw(st.sampled_from(["replace", "replace", "insert", "delete", "cut"]))
        if kind == "replace":
            content[place] = data.draw(BYTES | st.integers(0, 255))
        elif kind == "insert":
            content.insert(place, data.draw(BYTES))
        elif kind == "delete":
            del content[place]
        else:
            del content[data.draw(st.integers(1, len(content))) :]
    return bytes(content)


def mutated_json(data, value):
    """A leaf or a part replaced by something ugly, left out, or added."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(value)))
        kind = data.draw(st.sampled_from(["inside", "inside", "inside", "drop", "rename"]))
        rest = {name: part for name, part in value.items() if name != key}
        if kind == "inside":
            return rest | {key: mutated_json(data, value[key])}
        return rest | ({key + "_": value[key]} if kind == "rename" else {})
    if isinstance(value, list) and value and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutated_json(data, value[place]), *value[place + 1 :]]
    return data.draw(UGLY)


def mutated(data, content):
    """JSON mutated as text or as a value; sometimes something nested too deeply, or no UTF-8 at all."""
    kind = data.draw(st.sampled_from(["bytes", "value", "value", "deep", "latin"]))
    if kind == "bytes":
        return mutated_bytes(data, content, len(content))
    if kind == "value":
        return json.dumps(mutated_json(data, json.loads(content))).encode()
    return b"[" * 100_000 if kind == "deep" else b'{"\xe9": 1}'


def names(text, error):
    """Checks that the error says which file is damaged."""
    assert str(text) in str(error), error


def command(capsys, *arguments):
    """Runs a command that has to end well, or with one line that says why; returns the line."""
    status = _cli.main([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert status in (0, 1)
    return "" if status == 0 else error.splitlines()[-1]


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_pictures(folder / "images", 2)
    out = folder / "f.safetensors"
    assert _cli.main(["features", str(folder / "images"), "--out", str(out), *OPTIONS]) == 0
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two trainings, and another to compare it with."""
    folder = tmp_path_factory.mktemp("run")
    data = write_pictures(folder / "images", 4)
    for name, loss in (("first", "onehot"), ("second", "onehot+hue")):
        config = TrainConfig(
            str(data), backbone="resnet18-w2", image_size=16, epochs=2, folds=2, loss=loss, on_error="skip"
        )
        train(config, folder / name)
    return folder


@pytest.fixture(scope="module")
def memory(features_file, tmp_path_factory):
    """A memory on disk of the same features."""
    out = tmp_path_factory.mktemp("memory") / "memory"
    assert _cli.main(["memory", "build", str(features_file), "--out", str(out)]) == 0
    return out


def header_of(content):
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(header, rest):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


@settings(max_examples=400)
@given(data=st.data())
def test_features_files(features_file, tmp_path_factory, data):
    content = features_file.read_bytes()
    header, rest = header_of(content)
    kind = data.draw(st.sampled_from(["bytes", "header", "metadata"]))
    if kind == "bytes":
        content = mutated_bytes(data, content, len(content) - len(rest))
    elif kind == "header":
        content = with_header(mutated_json(data, header), rest)
    else:
        texts = header["__metadata__"]
        key = data.draw(st.sampled_from(sorted(texts)))
        text = mutated(data, texts[key].encode()) if texts[key][0] in "[{" else b"2"
        texts[key] = text.decode("utf-8", "replace")
        content = with_header(header, rest)
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(content)
    try:
        features = load_features(path)
    except ValueError as error:
        names(path, error)
        return
    assert features.activations.ndim == 4
    assert len(features.activations) == len(features.labels) == len(features.names)
    assert all(isinstance(name, str) for name in features.classes + features.names)
    assert 0 <= features.labels.min() <= features.labels.max() < len(features.classes)
    assert isinstance(features.source, dict)
    np.asarray(features.activations).sum(dtype=float)


def commands(features, memory, out):
    """Every command that reads a features file."""
    return {
        "observe": ["observe", features, "--out", out / "observed", "-k", "2"],
        "another network": ["observe", features, "--out", out / "observed", "--backbone", "x"],
        "another layer": ["observe", features, "--out", out / "observed", "--layer", "x"],
        "descriptors": ["descriptors", features, "--out", out / "tables", "--exact-only", "--folds", "2"],
        "build": ["memory", "build", features, "--out", out / "memory"],
        "add": ["memory", "add", memory, features],
        "search": ["memory", "search", memory, features],
        "bench": ["bench", features, "--images", "1", "-k", "1"],
    }


KINDS = list(commands(None, None, Path()))


def changed(content, **parts):
    """A features file with other activations, labels, or texts in its metadata."""
    header, rest = header_of(content)
    for name, value in parts.items():
        if name in ("activations", "labels"):
            begin, end = (len(content) - len(rest) + offset for offset in header[name]["data_offsets"])
            content = content[:begin] + value.tobytes() + content[end:]
        else:
            header["__metadata__"][name] = json.dumps(value)
            content = with_header(header, rest)
    return content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite_are_named(
    features_file, memory, tmp_path, monkeypatch, kind, value, capsys
):
    monkeypatch.setattr("pyhue._cli.data._CHECKED", 4)  # the image is in the second batch
    activations = np.array(load_features(features_file).activations)
    activations[5, 1, 0, 1] = value
    path = tmp_path / "f.safetensors"
    path.write_bytes(changed(features_file.read_bytes(), activations=activations))
    before = sorted(memory.rglob("*"))
    name = os.path.join("red", "001.png")
    line = command(capsys, *commands(path, memory, tmp_path)[kind])
    assert line.endswith(f"{path}: activations of row 5, {name}: NaN or infinite")
    assert sorted(memory.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [path]


def test_activations_that_observe_kept_are_checked_too(features_file, tmp_path, capsys):
    arguments = ["observe", features_file.parent / "images", "--out", tmp_path, *OPTIONS]
    path = tmp_path / "features.safetensors"
    assert command(capsys, *arguments) == ""
    activations = np.array(load_features(path).activations)
    activations[2] = np.nan
    path.write_bytes(changed(path.read_bytes(), activations=activations))
    assert f"{path}: activations of row 2" in command(capsys, *arguments)


def test_features_of_an_unknown_network(features_file, tmp_path, capsys):
    path = tmp_path / "f.safetensors"
    path.write_bytes(changed(features_file.read_bytes(), source={}))
    line = command(capsys, "observe", path, "--out", tmp_path / "out", "--backbone", "resnet18")
    assert line == f"pyhue observe: --backbone: {path} was made with an unknown network"
    line = command(capsys, "descriptors", path, "--out", tmp_path / "out", "--layer", "layers.2")
    assert line == f"pyhue descriptors: --layer: {path} has what is pooled"
    assert command(capsys, "observe", path, "--out", tmp_path / "out", "-k", "2") == ""
    page = (tmp_path / "out" / "observe.html").read_text()
    assert "<code>unknown</code> at unknown pixels" in page


@settings(max_examples=60)
@given(data=st.data())
def test_commands_on_features_files(features_file, memory, tmp_path_factory, data):
    """What is whole and says odd things: read or named, and the command says so in one line."""
    content, whole = features_file.read_bytes(), load_features(features_file)
    part = data.draw(st.sampled_from(["activations", "labels", "source", "source", "classes", "names"]))
    value, kinds = getattr(whole, part), KINDS
    if part == "activations":
        value = np.array(value)
        chosen = data.draw(st.lists(st.integers(0, len(value) - 1)))
        value[chosen] = data.draw(st.sampled_from([0, 1, -1, 6e-8, 65504, np.nan, np.inf]))
    elif part == "labels":
        value = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    elif part == "source":
        key = data.draw(st.sampled_from(["backbone", "layer", "image_size"]))
        value = {name: text for name, text in value.items() if name != key}
        value |= {key: data.draw(UGLY)} if data.draw(st.booleans()) else {}
        kinds = ["observe", "another network", "another layer"]
    else:
        value = mutated_json(data, value)
    out = tmp_path_factory.mktemp("commands")
    path = out / "f.safetensors"
    path.write_bytes(changed(content, **{part: value}))
    shutil.copytree(memory, out / "there")
    arguments = commands(path, out / "there", out)[data.draw(st.sampled_from(kinds))]
    notes = io.StringIO()
    with contextlib.redirect_stderr(notes), contextlib.redirect_stdout(io.StringIO()):
        status = _cli.main([str(argument) for argument in arguments])
    assert status in (0, 1)
    if status:
        line = notes.getvalue().splitlines()[-1]
        assert str(path) in line or "folds need at least 2 images of each class" in line, line


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.csv"])
@settings(max_examples=100)
@given(data=st.data())
def test_runs(run, name, data):
    """Reading, and what `compare` and the report of `train` make of what was read."""
    from pyhue.training.compare import compare
    from pyhue.training.report import write_report

    damaged = run / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(run / "second", damaged)
    path = damaged / name if name == "config.json" else damaged / "seed-0" / "fold-1" / name
    content = path.read_bytes()
    change = mutated_bytes(data, content, len(content)) if name == "metrics.csv" else mutated(data, content)
    path.write_bytes(change)
    try:
        found = load_run(damaged)
    except ValueError as error:
        names(path, error)
        return
    write_report(found, 2, [])
    try:
        compare([run / "first", damaged], run / "compared")
    except ValueError as error:
        names("cannot be paired", error)


def test_results_in_the_wrong_folder_are_named(run, tmp_path):
    shutil.copytree(run / "first", tmp_path / "run")
    shutil.move(tmp_path / "run" / "seed-0" / "fold-1", tmp_path / "run" / "seed-0" / "fold-2")
    with pytest.raises(ValueError, match=r"fold-2/result\.json: .*it is of seed 0, fold 1"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "seed-0" / "fold-2" / "metrics.csv").unlink()
    shutil.move(tmp_path / "run" / "seed-0" / "fold-2", tmp_path / "run" / "seed-0" / "fold-1")
    with pytest.raises(FileNotFoundError, match=r"fold-1/metrics\.csv"):
        load_run(tmp_path / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A training of two epochs, and its checkpoint after the first."""
    folder = tmp_path_factory.mktemp("stopped")
    data = write_split_pictures(folder / "images")
    config = TrainConfig(str(data), backbone="resnet18-w2", image_size=16, epochs=2)
    images = DataSet(config)
    workers = Workers(0, 1, torch.device("cpu"))
    training = fold_module._begin(config, images, images.folds(config)[0], workers)
    with progress_bar(disable=True) as bar:
        history = [fold_module._epoch(training, 1, bar)]
    checkpoint.save(folder / "checkpoint.pt", fold_module._state(training, history, 1.5))
    return training, folder / "checkpoint.pt"


CONTENT = ["version", "fingerprint", "model", "optimizer", "scheduler", "history", "seconds"]


def mutated_checkpoint(data, whole):
    content = torch.load(io.BytesIO(whole), weights_only=True)
    key = data.draw(st.sampled_from(CONTENT))
    value = content[key]
    if isinstance(value, dict) and data.draw(st.booleans()):
        inner = data.draw(st.sampled_from(sorted(value)))
        wrong = data.draw(st.sampled_from(["drop", "ugly", "tensor"]))
        value = {name: part for name, part in value.items() if name != inner}
        if wrong != "drop":
            value[inner] = data.draw(UGLY) if wrong == "ugly" else torch.ones(2, 3)
    elif key == "history":
        value = mutated_json(data, [list(row) for row in value])
    else:
        value = data.draw(UGLY)
    return checkpoint.to_bytes(content | {key: value})


@given(data=st.data())
def test_checkpoints(stopped, data, tmp_path_factory):
    training, path = stopped
    whole = path.read_bytes()
    damaged = tmp_path_factory.getbasetemp() / "damaged.pt"
    as_bytes = data.draw(st.booleans())
    damaged.write_bytes(
        mutated_bytes(data, whole, len(whole)) if as_bytes else mutated_checkpoint(data, whole)
    )
    try:
        saved = checkpoint.load(damaged, torch.device("cpu"))
        history, seconds = fold_module._restore(training, saved, damaged)
    except ValueError as error:
        names(damaged, error)
        return
    assert [row.epoch for row in history] in ([], [1])
    assert isinstance(seconds, int | float)


@settings(max_examples=60)
@given(data=st.data())
def test_trained_networks(run, data):
    fold = run / "network" / "seed-0" / "fold-0"
    shutil.rmtree(run / "network", ignore_errors=True)
    fold.mkdir(parents=True)
    for name, source in (("config.json", run / "first"), ("model.pt", run / "first" / "seed-0" / "fold-0")):
        content = (source / name).read_bytes()
        if name == data.draw(st.sampled_from(["config.json", "model.pt"])):
            content = (
                mutated(data, content)
                if name == "config.json"
                else mutated_bytes(data, content, len(content))
            )
        target = run / "network" / name if name == "config.json" else fold / name
        target.write_bytes(content)
    try:
        load_backbone(str(fold))
    except ValueError as error:
        names("config.json" if "config.json" in str(error) else fold / "model.pt", error)


@pytest.fixture(scope="module")
def weights_of():
    """Files of weights of a network, by their ending."""
    state, files = load_backbone("resnet18-w2", image_size=16).body.state_dict(), {}
    files["pt"] = checkpoint.to_bytes(state)
    files["safetensors"] = save(state)
    return state, files


@pytest.mark.parametrize("ending", ["pt", "safetensors", "values"])
@given(data=st.data())
def test_weights(weights_of, ending, data, tmp_path_factory):
    state, files = weights_of
    path = tmp_path_factory.getbasetemp() / (
        "mutated.safetensors" if ending == "safetensors" else "mutated.pt"
    )
    if ending == "values":
        name = data.draw(st.sampled_from(sorted(state)))
        tensors = st.sampled_from([torch.ones(2, 3), torch.ones(2, 2).to_sparse(), state[name].to("meta")])
        content = state | {data.draw(st.sampled_from([name, "new", 1, None])): data.draw(UGLY | tensors)}
        whole = data.draw(st.sampled_from([content, {"state_dict": content}, [content], {"model": {}}]))
        path.write_bytes(checkpoint.to_bytes(whole))
    else:
        content = files[ending]
        path.write_bytes(mutated_bytes(data, content, len(content) if data.draw(st.booleans()) else 2_000))
    try:
        load_backbone("resnet18-w2", image_size=16, weights=path)
    except ValueError as error:
        names(path, error)


def test_a_trained_network_of_no_known_kind(run, tmp_path):
    """A config.json that is whole and says something that there is not."""
    fold = tmp_path / "network" / "seed-0" / "fold-0"
    shutil.copytree(run / "first" / "seed-0" / "fold-0", fold)
    config = json.loads((run / "first" / "config.json").read_text()) | {"backbone": "esnet18-w2"}
    (tmp_path / "network" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'esnet18-w2'") as raised:
        load_backbone(str(fold))
    names(tmp_path / "network" / "config.json", raised.value)


@pytest.fixture(scope="module")
def matched(features_file, tmp_path_factory):
    """The output of `pyhue observe`."""
    out = tmp_path_factory.mktemp("observed")
    assert _cli.main(["observe", str(features_file), "--out", str(out), "-k", "2"]) == 0
    return out


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "image", "location", "negative"])
def test_files_of_matches(features_file, matched, tmp_path, damage, capsys):
    path = tmp_path / "matches-k2.safetensors"
    content = bytearray((matched / path.name).read_bytes())
    begin = len(content) - len(header_of(content)[1])
    rows = np.frombuffer(content, np.int32, offset=begin).reshape(6, 2, -1)
    if damage == "cut":
        del rows, content[-1]
    elif damage == "longer":
        del rows
        content += b"\0"
    elif damage == "header":
        content[begin - 40] ^= 1
    else:
        rows[3, int(damage == "location"), 2] = -2 if damage == "negative" else 6 if damage == "image" else 4
    path.write_bytes(content)
    line = command(capsys, "observe", features_file, "--out", tmp_path, "-k", "2")
    assert re.search(r"matches-k2\.safetensors: (not the whole file of matches|exists already)", line)
    assert not (tmp_path / "observe.html").exists()


@settings(max_examples=60)
@given(data=st.data())
def test_notes_of_unfinished_files(features_file, data, tmp_path_factory):
    """The note says how much is done; a number that is a number cannot be told from the right one."""
    from pyhue._files.resumable import ResumableFile

    folder = tmp_path_factory.mktemp("rest")
    source = load_features(features_file).source
    first = ResumableFile(folder / "f", source, b"header", 8)
    first.append(b"abcd")
    first.note.write_bytes(mutated(data, first.note.read_bytes()))
    try:
        again = ResumableFile(folder / "f", source, b"header", 8)
    except ValueError as error:
        names(folder / "f.part", error)
        return
    assert 0 <= again.done <= 8
