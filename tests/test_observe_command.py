import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from matplotlib.image import imread
from PIL import Image

from pyhue import _cli

FILES = ["conditional.png", "energy.png", "hue.png", "locations.png", "observe.html", "observe.json"]

# Runs the command, killed when it appends to a file for the n-th time; 0: never.
KILLED = """
import os, signal, sys
from pyhue import _cli
from pyhue._files.resumable import ResumableFile
from pyhue.observe import matches

matches._QUERIES = 16
append, left = ResumableFile.append, int(sys.argv[1])

def killed(self, piece):
    global left
    append(self, piece)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

ResumableFile.append = killed
sys.exit(_cli.main(sys.argv[2:]))
"""


def save_images(folder, classes=("left", "right", "<&>"), images=4):
    """Images with a bright square whose place is the class's."""
    random = np.random.default_rng(0)
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(0, 60, (32, 32, 3), np.uint8)
            pixels[8:24, 10 * place : 10 * place + 10] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """A folder that the command wrote."""
    folder = tmp_path_factory.mktemp("observe")
    save_images(folder / "images")
    options = ["--backbone", "resnet18-3x3-w4", "--image-size", "32", "-k", "5"]
    assert _cli.main(["observe", str(folder / "images"), "--out", str(folder / "out"), *options]) == 0
    return folder


def test_report_is_written(observed):
    written = sorted(path.name for path in (observed / "out").iterdir())
    assert written == sorted([*FILES, "features.safetensors", "matches-k5.safetensors"])
    for name in FILES[:4]:
        picture = imread(observed / "out" / name)
        assert picture.shape[1] > 1000
        assert len(np.unique(picture)) > 50


def test_page_needs_nothing_else_and_escapes_names(observed):
    page = (observed / "out" / "observe.html").read_text()
    assert "&lt;&amp;&gt;" in page
    assert "<&>" not in page
    assert "<script" not in page
    assert page.count("src='data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=(?!'data:)", page)
    assert "12 images of 3 classes" in page
    assert "nan" not in re.sub(r"base64,[^']*", "", page)


def test_numbers_are_consistent(observed):
    numbers = json.loads((observed / "out" / "observe.json").read_text())
    assert 0 < numbers["same_class_matches"] < 1
    for kind in ("same", "other"):
        assert 0 <= numbers[kind]["classes_directed"] <= numbers[kind]["classes_tested"] <= 3
        assert numbers[kind]["radial"] > 0
        assert numbers[kind]["class_share_by_chance"] == pytest.approx(2 / 11)


def test_killed_runs_go_on_to_the_same_files(observed, tmp_path):
    def run(kill_at):
        features = observed / "out" / "features.safetensors"
        arguments = ["observe", str(features), "--out", str(tmp_path), "-k", "5"]
        command = [sys.executable, "-c", KILLED, str(kill_at), *arguments]
        return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode

    assert run(2) == -signal.SIGKILL
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".part"]
    assert run(3) == -signal.SIGKILL
    assert run(0) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "matches-k5.safetensors"])
    for name in [*FILES, "matches-k5.safetensors"]:
        assert (tmp_path / name).read_bytes() == (observed / "out" / name).read_bytes(), name


def failure(arguments, capsys):
    assert _cli.main([str(argument) for argument in arguments]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("pyhue observe: ")
    return line


def test_bad_input_is_named(observed, tmp_path, capsys):
    assert "needs --backbone" in failure(["observe", observed / "images", "--out", tmp_path], capsys)
    features = observed / "out" / "features.safetensors"
    line = failure(["observe", features, "--backbone", "resnet18", "--out", tmp_path], capsys)
    assert "was made with resnet18-3x3-w4" in line
    assert "k: expected at least 1" in failure(["observe", features, "-k", "0", "--out", tmp_path], capsys)
    page = observed / "out" / "observe.html"
    assert "pyhue features" in failure(["observe", page, "--out", tmp_path], capsys)
    assert "No such file" in failure(["observe", tmp_path / "none", "--out", tmp_path], capsys)
    assert not list(tmp_path.iterdir())


def test_two_images_and_maps_of_one_location(tmp_path):
    save_images(tmp_path / "images", classes=("a", "b"), images=1)
    options = ["--backbone", "resnet18-w4", "--image-size", "32", "--out", str(tmp_path / "out")]
    assert _cli.main(["observe", str(tmp_path / "images"), *options]) == 0
    numbers = json.loads((tmp_path / "out" / "observe.json").read_text())
    assert numbers["same_class_matches"] == 0
    assert numbers["same"]["length"] is None
