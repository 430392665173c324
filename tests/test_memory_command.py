"""`pyhue memory`: the same as the memory that it writes."""

import io
import json
import sys

import numpy as np
import pytest
from families import draw

import pyhue
from pyhue import _cli
from pyhue._cli import memory as memory_command
from pyhue._files.tensors import save_tensors
from pyhue._saved import folder as folders
from pyhue._saved import manifest as manifests


def _features(path, count, seed, classes="abc"):
    maps = (
        draw("relu60", count * 6, 12, seed).reshape(count, 2, 3, 12).transpose(0, 3, 1, 2).astype(np.float16)
    )
    labels = np.arange(count) % 3
    texts = {"classes": list(classes), "names": [f"{number}.png" for number in range(count)], "source": {}}
    metadata = {"format": "pyhue.features", "version": "1"}
    metadata |= {name: json.dumps(value) for name, value in texts.items()}
    save_tensors(path, metadata, {"labels": labels, "activations": maps})
    return maps, labels


def _run(*arguments):
    return _cli.main(["memory", *map(str, arguments)])


@pytest.mark.parametrize("options", [[], ["--dtype", "bfloat16", "--no-normalize"]])
def test_from_building_to_searching(tmp_path, capsys, options):
    first, second = tmp_path / "first", tmp_path / "second"
    memory = pyhue.PixelMemory(12, normalize=not options, dtype="bfloat16" if options else "float32")
    given, more = _features(first, 70, 0), _features(second, 9, 1)
    folder = tmp_path / "memory"
    assert _run("build", first, "--out", folder, *options) == 0
    assert "420 vectors of 70 images, 3 classes" in capsys.readouterr().out
    memory.add(*given)
    assert _run("add", folder, second) == 0
    assert "474 vectors of 79 images" in capsys.readouterr().out
    memory.add(*more)
    assert _run("compact", folder) == 0
    assert "2 segments became 1, 0 vectors were dropped" in capsys.readouterr().out
    assert _run("check", folder) == 0
    assert capsys.readouterr().out == "whole\n"
    found = pyhue.PixelMemory.open(folder)
    np.testing.assert_array_equal(found.vectors, memory.vectors)
    np.testing.assert_array_equal(found.labels, memory.labels)
    assert _run("search", folder, second, "-k", 3) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    predicted = memory.predict(more[0], 3)
    assert lines == [f"{number}.png\t{label}" for number, label in enumerate(predicted)]
    assert last.startswith(f"{(predicted == more[1]).sum()} of 9 images")
    assert _run("info", folder) == 0
    assert "segment      1 files" in capsys.readouterr().out


def test_classes_of_other_names_are_refused(tmp_path, capsys):
    _features(tmp_path / "first", 9, 0)
    _features(tmp_path / "turned", 9, 1, "bca")
    assert _run("build", tmp_path / "first", "--out", tmp_path / "memory") == 0
    for _ in range(2):
        for action in ("add", "search"):
            assert _run(action, tmp_path / "memory", tmp_path / "turned") == 1
            assert f"{tmp_path / 'turned'}: expected the classes of" in capsys.readouterr().err
        assert _run("remove", tmp_path / "memory", "--rows", 0) == 0
        assert _run("compact", tmp_path / "memory") == 0
    assert len(pyhue.PixelMemory.open(tmp_path / "memory")) == 52


def test_a_memory_saved_elsewhere_keeps_the_names_of_its_classes(tmp_path, capsys):
    _features(tmp_path / "first", 9, 0)
    _features(tmp_path / "turned", 9, 1, "bca")
    assert _run("build", tmp_path / "first", "--out", tmp_path / "memory") == 0
    with pyhue.PixelMemory.open(tmp_path / "memory") as memory:
        memory.save(tmp_path / "saved")
    assert _run("add", tmp_path / "saved", tmp_path / "turned") == 1
    assert "expected the classes of" in capsys.readouterr().err
    assert _run("add", tmp_path / "saved", tmp_path / "first") == 0
    assert len(pyhue.PixelMemory.open(tmp_path / "saved")) == 108


@pytest.mark.parametrize(("terminal", "least"), [(True, 54), (True, 55), (False, 54)])
def test_building_tells_people_what_takes_long(tmp_path, capsys, monkeypatch, terminal, least):
    monkeypatch.setattr("pyhue._cli.memory.on_terminal", lambda: terminal)
    monkeypatch.setattr("pyhue._search.host.OPTIMIZE_FROM", least)
    _features(tmp_path / "first", 9, 0)  # of six vectors each
    assert _run("build", tmp_path / "first", "--out", tmp_path / "memory") == 0
    assert ("choosing how vectors are packed" in capsys.readouterr().err) == (terminal and least == 54)


def test_a_memory_is_not_built_as_a_file(tmp_path, capsys):
    _features(tmp_path / "first", 9, 0)
    assert _run("build", tmp_path / "first", "--out", tmp_path / "memory.safetensors") == 1
    assert "--out: expected a folder" in capsys.readouterr().err
    assert not (tmp_path / "memory.safetensors").exists()


def test_removing(tmp_path, capsys):
    given = _features(tmp_path / "features", 30, 0)
    folder = tmp_path / "memory"
    memory = pyhue.PixelMemory(12)
    memory.add(*given)
    assert _run("build", tmp_path / "features", "--out", folder) == 0
    capsys.readouterr()
    for asked in ({"rows": [0, 7]}, {"images": [2], "labels": [1, 9]}):
        options = [text for name, values in asked.items() for text in (f"--{name}", *values)]
        assert _run("remove", folder, *options) == 0
        assert capsys.readouterr().out.startswith(f"{memory.remove(**asked)} vectors were removed")
    np.testing.assert_array_equal(pyhue.PixelMemory.open(folder).removed, memory.removed)
    assert _run("info", folder) == 0
    gone = int(memory.removed.sum())
    assert f"{gone} vectors are removed" in capsys.readouterr().out
    assert _run("compact", folder) == 0
    assert capsys.readouterr().out == f"1 segments became 1, {gone} vectors were dropped\n"
    assert len(pyhue.PixelMemory.open(folder)) == 180 - gone
    for options, message in (([], "expected one of them"), (["--rows", 999], "rows: expected 0 to")):
        assert _run("remove", folder, *options) == 1
        assert message in capsys.readouterr().err
    vectors = pyhue.VectorMemory(4)
    vectors.add(np.eye(4))
    vectors.save(tmp_path / "vectors")
    assert _run("remove", tmp_path / "vectors", "--rows", 1) == 0
    assert _run("remove", tmp_path / "vectors", "--labels", 1) == 1
    assert "vectors alone" in capsys.readouterr().err


def test_json(tmp_path, capsys):
    _features(tmp_path / "features", 30, 0)
    folder = tmp_path / "memory"

    def printed(*arguments):
        assert _run(*arguments) == 0
        return json.loads(capsys.readouterr().out)

    found = printed("build", tmp_path / "features", "--out", folder, "--json")
    assert (found["vectors"], found["removed"], found["images"], found["dim"]) == (180, 0, 30, 12)
    assert found["files"]["segment"]["bytes"] == (folder / "segment-1.safetensors").stat().st_size
    assert printed("--json", "remove", folder, "--rows", 0, 1) == {"removed": 2}
    assert printed("--json", "info", folder)["removed"] == 2
    assert printed("compact", folder, "--json") == {"segments_before": 1, "segments": 1, "dropped": 2}
    assert printed("check", folder, "--json") == {"damaged": []}
    found = printed("search", folder, tmp_path / "features", "--json")
    assert len(found["images"]) == 30
    assert found["images"][3]["name"] == "3.png"


def test_the_bar_of_compacting_ends_with_what_was_kept(tmp_path, monkeypatch):
    _features(tmp_path / "features", 30, 0)
    folder = tmp_path / "memory"
    assert _run("build", tmp_path / "features", "--out", folder) == 0
    assert _run("add", folder, tmp_path / "features") == 0
    assert _run("remove", folder, "--rows", 0, 7) == 0
    stream = io.StringIO()
    stream.isatty = lambda: True
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert _run("compact", folder) == 0
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith("compact: 100%")
    assert "358/358" in last


def test_check_tells_what_is_damaged(tmp_path, capsys):
    _features(tmp_path / "features", 30, 0)
    folder = tmp_path / "memory"
    assert _run("build", tmp_path / "features", "--out", folder) == 0
    segment = folder / "segment-1.safetensors"
    content = bytearray(segment.read_bytes())
    for place, message in ((5000, "damaged: vectors"), (40, "not a whole segment of a memory")):
        content[place] ^= 4
        segment.write_bytes(content)
        capsys.readouterr()
        assert _run("check", folder) == 1
        first, last = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{segment}: ")
        assert message in first
        assert last == "1 files damaged"


def test_vectors_alone_are_told_of(tmp_path, capsys):
    memory = pyhue.VectorMemory(4)
    memory.add(np.eye(4))
    memory.save(tmp_path / "memory")
    assert _run("info", tmp_path / "memory") == 0
    assert capsys.readouterr().out.startswith("VectorMemory(dim=4")
    assert _run("check", tmp_path / "memory") == 0


def test_a_memory_that_is_there_is_not_built_again(tmp_path, capsys):
    _features(tmp_path / "features", 3, 0)
    assert _run("build", tmp_path / "features", "--out", tmp_path / "memory") == 0
    assert _run("build", tmp_path / "features", "--out", tmp_path / "memory") == 1
    assert "exists already" in capsys.readouterr().err
    with pyhue.PixelMemory.open(tmp_path / "memory", "a"):
        assert _run("add", tmp_path / "memory", tmp_path / "features") == 1
    assert "somebody else writes" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["add", "search"])
def test_what_is_not_there_is_named(tmp_path, capsys, action):
    _features(tmp_path / "features", 3, 0)
    assert _run(action, tmp_path / "none", tmp_path / "features") == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("where", ["adding", "the last flush", "after the last manifest was written"])
@pytest.mark.parametrize("written", [True, False], ids=["some written already", "nothing written"])
def test_building_and_adding_are_done_whole_or_not_at_all(
    tmp_path, capsys, monkeypatch, error, where, written
):
    features, more, folder = tmp_path / "features", tmp_path / "more", tmp_path / "memory"
    _features(features, 9, 0)
    _features(more, 150, 1)
    if written:
        monkeypatch.setattr(folders, "SEGMENT_BYTES", 100 * 6 * 12 * 4)
    batches, write = memory_command._batches, manifests.write

    def broken(given, what):
        for number, batch in enumerate(batches(given, what)):
            if number == 2 and where == "adding":
                raise error("broken")
            yield batch

    def broken_write(path, manifest):
        last = manifest.images in (150, 159)
        if last and where == "the last flush":
            raise error("broken")
        found = write(path, manifest)
        if last and where != "adding":
            raise error("broken")
        return found

    def failed(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(memory_command, "_batches", broken)
            patch.setattr(manifests, "write", broken_write)
            return _run(*arguments) == (130 if error is KeyboardInterrupt else 1)

    assert failed("build", more, "--out", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "more"]
    assert _run("build", features, "--out", folder) == 0
    before = pyhue.PixelMemory.open(folder)
    assert failed("add", folder, more)
    for found in (pyhue.PixelMemory.open(folder), before):
        found.refresh()
        assert repr(found) == repr(before)
        assert found.check() == []
        assert not found.removed.any()
        np.testing.assert_array_equal(found.vectors, before.vectors)
    assert _run("add", folder, more) == 0
    assert "954 vectors of 159 images" in capsys.readouterr().out


def test_undoing_that_is_interrupted_publishes_nothing(tmp_path, monkeypatch):
    features, folder = tmp_path / "features", tmp_path / "memory"
    _features(features, 9, 0)
    assert _run("build", features, "--out", folder) == 0

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(memory_command, "_batches", interrupted)
    monkeypatch.setattr(folders.Folder, "roll_back", interrupted)
    assert _run("add", folder, features) == 130
    assert len(pyhue.PixelMemory.open(folder)) == 54


def test_a_memory_that_somebody_else_builds_is_left_alone(tmp_path, capsys):
    _features(tmp_path / "features", 3, 0)
    pyhue.PixelMemory(12).save(tmp_path / "memory.part")
    with pyhue.PixelMemory.open(tmp_path / "memory.part", "a") as memory:
        assert _run("build", tmp_path / "features", "--out", tmp_path / "memory") == 1
        assert "somebody else writes there" in capsys.readouterr().err
        memory.add(np.ones((1, 1, 12)), [0])
    assert len(pyhue.PixelMemory.open(tmp_path / "memory.part")) == 1
    assert _run("build", tmp_path / "features", "--out", tmp_path / "memory") == 0  # as if it had been killed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "memory"]


def test_a_file_of_other_channels_is_named(tmp_path, capsys):
    _features(tmp_path / "features", 3, 0)
    pyhue.PixelMemory(13).save(tmp_path / "memory")
    assert _run("add", tmp_path / "memory", tmp_path / "features") == 1
    told = capsys.readouterr().err
    assert f"{tmp_path / 'features'}: expected 13 channels, as {tmp_path / 'memory'} has, got 12" in told


@pytest.mark.parametrize("name", ["rows", "images", "labels"])
def test_numbers_beyond_64_bits_are_refused_in_a_line(tmp_path, capsys, name):
    _features(tmp_path / "features", 3, 0)
    assert _run("build", tmp_path / "features", "--out", tmp_path / "memory") == 0
    assert _run("remove", tmp_path / "memory", f"--{name}", 10**20) == 1
    assert f"{name}: expected integers from" in capsys.readouterr().err
