import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")

import torch
from PIL import Image

import pyhue
from pyhue import _cli
from pyhue.backbones import load_backbone
from pyhue.features import load_features
from pyhue.images import load_image

BACKBONE = "resnet18-3x3-w4"
OPTIONS = ["--backbone", BACKBONE, "--image-size", "32", "--batch-size", "2"]

# A network that the parent has killed, at the batch it names.
NETWORK = """
import os, signal
import torch

class Network(torch.nn.Conv2d):
    batches = 0

    def forward(self, images):
        self.batches += 1
        if self.batches == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)

def make():
    return Network(3, 5, 3, stride=4)
"""


@pytest.fixture
def folder(tmp_path):
    """Three classes of three tiny images."""
    random = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (40, 36, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def failure(arguments, capsys):
    """The one line that a command which fails prints."""
    assert _cli.main([str(argument) for argument in arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"pyhue {arguments[0]}: ")
    return lines[-1]


def test_features_are_the_backbone_s_of_each_image(folder, tmp_path, capsys):
    out = tmp_path / "f.safetensors"
    assert _cli.main(["features", str(folder), "--out", str(out), *OPTIONS]) == 0
    assert "9 images of 3 classes, 32 x 4 x 4" in capsys.readouterr().out
    features = load_features(out)
    assert features.classes == ["a", "b", "c"]
    assert features.names[4] == os.path.join("b", "1.png")
    np.testing.assert_array_equal(features.labels, np.repeat([0, 1, 2], 3))
    assert features.source["backbone"] == BACKBONE
    torch.manual_seed(0)
    backbone = load_backbone(BACKBONE, image_size=32).eval()
    with torch.no_grad():
        expected = backbone(torch.from_numpy(load_image(folder / "b" / "1.png", 32))[None])[0]
    np.testing.assert_allclose(features.activations[4], expected, rtol=2e-3, atol=1e-4)
    assert sorted(os.listdir(tmp_path)) == ["f.safetensors", "images"]


def test_a_killed_run_goes_on_to_the_same_file(folder, tmp_path):
    network = tmp_path / "network.py"
    network.write_text(NETWORK)
    code = "import sys; from pyhue import _cli; sys.exit(_cli.main(sys.argv[1:]))"

    def run(out, **environment):
        arguments = ["features", str(folder), "--backbone", f"{network}:make", "--out", str(out)]
        # -B: no bytecode of network.py among the files that are looked for
        command = [sys.executable, "-B", "-c", code, *arguments, "--image-size", "32", "--batch-size", "2"]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, timeout=300
        )
        return done.returncode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole) == 0
    # Two passes come before the first batch: they find out the shape.
    assert run(killed, KILL_AT="5") == -signal.SIGKILL
    assert not killed.exists()
    assert json.loads((tmp_path / "killed.part.json").read_text())["done"] == 2 * 2 * 5 * 8 * 8 * 2
    assert run(killed) == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "killed", "network.py", "whole"]
    written = killed.stat().st_mtime_ns
    assert run(killed, KILL_AT="3") == 0  # nothing is left to do
    assert killed.stat().st_mtime_ns == written


def test_a_rest_that_lost_its_end_is_begun_anew(folder, tmp_path):
    arguments = ["features", str(folder), *OPTIONS, "--out"]
    assert _cli.main([*arguments, str(tmp_path / "whole")]) == 0
    shutil.copy(tmp_path / "whole", tmp_path / "f.part")
    os.truncate(tmp_path / "f.part", 100)
    source = load_features(tmp_path / "whole").source
    (tmp_path / "f.part.json").write_text(json.dumps({"done": 1024, "source": source}))
    assert _cli.main([*arguments, str(tmp_path / "f")]) == 0
    assert (tmp_path / "f").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_device_that_is_not_there_is_named(folder, tmp_path, capsys):
    line = failure(["features", folder, "--out", tmp_path / "f", *OPTIONS, "--device", "warp"], capsys)
    assert "device: 'warp' cannot be used" in line


def test_what_another_run_left_is_refused(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "f"
    arguments = ["features", folder, "--out", out, *OPTIONS]
    with monkeypatch.context() as patch:
        patch.setattr("pyhue.features._require_finite", lambda *_: (_ for _ in ()).throw(OSError("stop")))
        assert failure(arguments, capsys) == "pyhue features: stop"
    line = failure([*arguments, "--seed", "1"], capsys)
    assert "f.part: the rest of another run (weights differ); delete it" in line
    assert _cli.main([str(argument) for argument in arguments]) == 0
    assert "exists already" in failure([*arguments, "--seed", "1"], capsys)


def test_a_full_disk_is_named_at_the_start(folder, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "sub" / "f"
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        line = failure(["features", folder, "--out", out, *OPTIONS], capsys)
    assert "No space left on device" in line
    assert str(out) in line
    assert not list(out.parent.iterdir())


def test_a_disk_that_fills_up_loses_nothing(folder, tmp_path, capsys, monkeypatch):
    arguments = ["features", folder, *OPTIONS, "--out"]
    assert _cli.main([str(argument) for argument in [*arguments, tmp_path / "whole"]]) == 0
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left on device" in failure([*arguments, tmp_path / "f"], capsys)
    assert not (tmp_path / "f").exists()
    assert _cli.main([str(argument) for argument in [*arguments, tmp_path / "f"]]) == 0
    assert (tmp_path / "f").read_bytes() == (tmp_path / "whole").read_bytes()


def test_bad_images_are_named_or_skipped(folder, tmp_path, capsys):
    (folder / "b" / "empty.png").touch()
    (folder / "c" / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    arguments = ["features", folder, "--out", tmp_path / "f", *OPTIONS]
    line = failure(arguments, capsys)
    assert "empty.png" in line
    assert "1 more" in line
    assert _cli.main([str(argument) for argument in [*arguments, "--on-error", "skip"]]) == 0
    error = capsys.readouterr().err
    assert "empty.png" in error
    assert "broken.jpg" in error
    assert "skipped 2 of the files" in error
    assert len(load_features(tmp_path / "f").names) == 9


def test_parts_of_a_divided_set_are_taken_together(folder, tmp_path):
    (tmp_path / "divided").mkdir()
    folder.rename(tmp_path / "divided" / "train")
    test = tmp_path / "divided" / "test" / "b"
    test.mkdir(parents=True)
    Image.new("RGB", (40, 40), "red").save(test / "0.png")
    out = tmp_path / "f"
    assert _cli.main(["features", str(tmp_path / "divided"), "--out", str(out), *OPTIONS]) == 0
    features = load_features(out)
    assert features.names[-1] == os.path.join("test", "b", "0.png")
    assert features.labels[-1] == 1


@pytest.mark.parametrize("kind", ["empty", "one class", "missing"])
def test_folders_that_make_no_sense(kind, tmp_path, capsys):
    folder = tmp_path / "images"
    if kind != "missing":
        folder.mkdir()
    if kind == "one class":
        (folder / "only").mkdir()
        Image.new("RGB", (40, 40)).save(folder / "only" / "0.png")
    line = failure(["features", folder, "--out", tmp_path / "f", *OPTIONS], capsys)
    expected = {"empty": "found no folder", "one class": "'only'", "missing": "No such file"}
    assert expected[kind] in line
    assert not list(tmp_path.glob("f*"))


def test_activations_beyond_float16_name_the_image(folder, tmp_path, capsys):
    network = tmp_path / "network.py"
    network.write_text(
        "import torch\n"
        "class Huge(torch.nn.Module):\n"
        "    preprocess = torch.nn.Identity()\n"
        "    def forward(self, x):\n"
        "        return 1e6 * x\n"
        "make = Huge\n"
    )
    arguments = ["features", folder, "--backbone", f"{network}:make", "--out", tmp_path / "f"]
    assert "0.png: an activation is" in failure([*arguments, "--image-size", "8"], capsys)


@pytest.mark.parametrize("damage", ["cut", "foreign", "memory"])
def test_damaged_files_are_refused(damage, folder, tmp_path):
    out = tmp_path / "f"
    assert _cli.main(["features", str(folder), "--out", str(out), *OPTIONS]) == 0
    if damage == "cut":
        out.write_bytes(out.read_bytes()[:-1])
    elif damage == "foreign":
        out.write_bytes(b"not this")
    else:
        memory = pyhue.PixelMemory(3)
        memory.add(np.ones((1, 1, 3)), [0])
        memory.save(tmp_path / "memory.safetensors")
        (tmp_path / "memory.safetensors").replace(out)
    with pytest.raises(ValueError, match="pyhue features"):
        load_features(out)
