"""Names that break a line or steer a terminal are shown escaped, wherever they are printed or reported."""

import json
import os
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from pictures import write_pictures

from pyhue import _cli
from pyhue._stderr import say
from pyhue._text import printable
from pyhue.features import load_features
from pyhue.images import decode_image, scan_images
from pyhue.training.events import can_have_events

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such names")
UGLY, SHOWN = "a\n\x1b[2J\x85\u2028b", "a\\n\\x1b[2J\\x85\\u2028b"
TINY = ["--backbone", "resnet18-3x3-w2", "--image-size", "16"]
TRAIN = ["--epochs", "1", "--folds", "2", "--folds-run", "1"]
COMMANDS = {
    "features": [f"{UGLY}.out", *TINY],
    "observe": [UGLY, "-k", "2", *TINY],
    "descriptors": [UGLY, "-k", "2", "--folds", "2", "--exact-only", *TINY],
    "train": [UGLY, *TRAIN, *TINY],
}
CONTROLS = {*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u2029"} - {"\n"}


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Two classes, one with such a name, with an image that has one and one that cannot be read."""
    monkeypatch.chdir(tmp_path)
    root = write_pictures(tmp_path / f"images{UGLY}", 4, ["blue", "red"])
    (root / "red").rename(root / UGLY)
    (root / UGLY / "000.png").rename(root / UGLY / f"{UGLY}.png")
    (root / "blue" / f"bad{UGLY}.png").write_bytes(b"no image")
    (root / "blue" / f"link{UGLY}.png").symlink_to(f"nowhere{UGLY}.png")
    return root


def lines(text):
    """The lines of what was printed, none of which has a control character."""
    assert not CONTROLS & set(text.replace("\r", "")), text
    return text.split("\n")[:-1]


def test_ordinary_names_stay():
    for name in ("café", "猫", "👩‍👩‍👧", "a b", "a\\nb", "a\u00a0b"):
        assert printable(name) == name
    assert printable("\udcff\n\t\x7f\x9b") == "\\udcff\\n\\t\\x7f\\x9b"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_commands_print_and_write(images, command, capsys):
    options = [*COMMANDS[command], "--on-error", "skip"]
    assert _cli.main([command, str(images), "--out", *options]) == 0
    output = capsys.readouterr()
    noted = lines(output.err)
    name = f"{printable(images)}/blue/bad{SHOWN}.png"
    assert sum(line.startswith(f"skipped {name}: ") for line in noted) == 1
    assert (
        f"skipped {printable(images)}/blue/link{SHOWN}.png: link to nowhere{SHOWN}.png, which is not there"
        in noted
    )
    told = lines(output.out)
    assert (SHOWN in output.out) == (command != "descriptors")
    assert not any(line.startswith("\\n") for line in told)
    if command == "train":
        assert name in (images.parent / UGLY / "skipped.csv").read_text("utf-8")
        report = (images.parent / UGLY / "report.md").read_text("utf-8")
        assert report.startswith(f"# {SHOWN}\n")
        lines(report)
    else:
        file = f"{UGLY}.out" if command == "features" else f"{UGLY}/features.safetensors"
        features = load_features(file)
        assert features.classes == [SHOWN, "blue"]
        assert f"{SHOWN}/{SHOWN}.png" in features.names


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_of_commands(images, command, capsys):
    assert _cli.main([command, str(images), "--out", *COMMANDS[command]]) == 1
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"pyhue {command}: {printable(images)}/blue/bad{SHOWN}.png: not an image")
    assert _cli.main([command, f"nowhere{UGLY}", "--out", *COMMANDS[command]]) == 1
    assert "nowhere" in lines(capsys.readouterr().err)[-1]


def test_errors_of_functions(images):
    with pytest.raises(ValueError, match="not an image") as raised:
        scan_images(images)
    assert str(raised.value).startswith(f"{printable(images)}/blue/bad{SHOWN}.png: not an image")
    with pytest.raises(ValueError, match="not an image") as raised:
        decode_image(images / "blue" / f"bad{UGLY}.png", 8)
    assert str(raised.value).startswith(f"{printable(images)}/blue/bad{SHOWN}.png: not an image")
    with pytest.raises(ValueError, match="file of `pyhue features`") as raised:
        load_features(images / "blue" / f"bad{UGLY}.png")
    assert str(raised.value).startswith(f"{printable(images)}/blue/bad{SHOWN}.png: ")


@pytest.mark.parametrize("option", ["--weights", "--backbone"])
def test_errors_of_networks(images, option, capsys):
    name = f"x{UGLY}.py:make" if option == "--backbone" else f"x{UGLY}.pt"
    if option == "--weights":
        open(name, "wb").close()
    assert _cli.main(["features", str(images), "--out", "out", *TINY, option, name]) == 1
    (line,) = lines(capsys.readouterr().err)
    assert f"x{SHOWN}." in line


def test_compared_runs(images, capsys):
    for run, loss in ((UGLY, "onehot"), (f"{UGLY}2", "onehot+hue")):
        options = [*TRAIN, *TINY, "--loss", loss, "--on-error", "skip"]
        assert _cli.main(["train", str(images), "--out", run, *options]) == 0
    capsys.readouterr()
    assert _cli.main(["compare", UGLY, f"{UGLY}2", "--out", f"{UGLY}3"]) == 0
    assert f"| {SHOWN}2 |" in "\n".join(lines(capsys.readouterr().out))
    os.remove(f"{UGLY}2/config.json")
    assert _cli.main(["compare", UGLY, f"{UGLY}2"]) == 1
    (line,) = lines(capsys.readouterr().err)
    assert line == f"pyhue compare: {SHOWN}2: not the folder of a run: it has no config.json"


def test_json_has_names_as_they_are(images, capsys):
    options = [*COMMANDS["features"], "--on-error", "skip"]
    assert _cli.main(["features", str(images), "--json", "--out", *options]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == f"{UGLY}.out"


def test_a_folder_of_such_a_name_has_events(tmp_path):
    assert can_have_events(tmp_path / UGLY)
    assert not can_have_events(tmp_path / "\udcff")


def test_a_note_is_one_line(capsys):
    say(UGLY)
    assert capsys.readouterr().err == f"{SHOWN}\n"
