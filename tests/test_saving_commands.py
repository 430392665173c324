"""The files of every command, replaced through links that lie in their places."""

import os
import stat

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("kornia")
pytest.importorskip("tensorboard")

from pictures import write_pictures

from pyhue import _cli

SMALL = ["--backbone", "resnet18-w2", "--image-size", "16"]
TRAIN = ["train", "DATA", *SMALL, "--epochs", "1", "--folds", "2", "--folds-run", "1", "--on-error", "skip"]
COMMANDS = {
    "train": (
        TRAIN,
        {"config.json", "report.md", "results.csv", "curves.png", "skipped.csv"}
        | {f"seed-0/fold-0/{name}" for name in ("model.pt", "result.json", "metrics.csv")},
    ),
    "compare": (["compare", "RUN", "RUN/../run2"], {"compare.md", "compare.csv", "compare.png"}),
    "observe": (
        ["observe", "DATA", *SMALL, "-k", "2", "--on-error", "skip"],
        {f"{name}.png" for name in ("energy", "locations", "conditional", "hue")}
        | {"observe.html", "observe.json", "features.safetensors", "matches-k2.safetensors"},
    ),
    "descriptors": (
        ["descriptors", "DATA", *SMALL, "--folds", "2", "--exact-only", "--on-error", "skip"],
        {"descriptors.md", "descriptors.csv", "features.safetensors"},
    ),
    "demo": (["demo", "--epochs", "0"], {"digits.png"}),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Images, one of them damaged, and the folders of two runs."""
    folder = tmp_path_factory.mktemp("places")
    data = write_pictures(folder / "data", 4)
    (data / "red" / "broken.png").write_bytes(b"no picture")
    for name in ("run", "run2"):
        arguments = [str(data) if text == "DATA" else text for text in TRAIN]
        assert _cli.main([*arguments, "--out", str(folder / name)]) == 0
    return folder


def run(command, places, out):
    arguments = [
        text.replace("DATA", str(places / "data")).replace("RUN", str(places / "run"))
        for text in COMMANDS[command][0]
    ]
    assert _cli.main([*arguments, "--out", str(out)]) == 0


def contents(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("command", COMMANDS)
def test_links_and_modes_stay(command, places, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    run(command, places, out)
    files = {name for name in contents(out) if ".tfevents." not in name}
    assert files == COMMANDS[command][1]
    elsewhere.mkdir()
    for number, name in enumerate(sorted(files)):
        target = elsewhere / str(number)
        os.rename(out / name, target)
        target.chmod(0o640)
        (out / name).symlink_to(target)
    numbers = {path.name: path.stat().st_ino for path in elsewhere.iterdir()}
    run(command, places, out)
    assert {name for name in contents(out) if ".tfevents." not in name} == files
    assert all((out / name).is_symlink() for name in files)
    assert {path.name for path in elsewhere.iterdir()} == set(numbers)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o640 for path in elsewhere.iterdir())
    assert any(path.stat().st_ino != numbers[path.name] for path in elsewhere.iterdir())  # replaced


@pytest.mark.parametrize("name", ["n" * 250, "é" * 125])
def test_features_with_a_long_name(name, places, tmp_path):
    arguments = [
        "features",
        str(places / "data"),
        *SMALL,
        "--on-error",
        "skip",
        "--out",
        str(tmp_path / name),
    ]
    assert _cli.main(arguments) == 0
    assert os.listdir(tmp_path) == [name]


def test_features_behind_a_link(places, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "link").symlink_to("files/features")
    arguments = [
        "features",
        str(places / "data"),
        *SMALL,
        "--on-error",
        "skip",
        "--out",
        str(tmp_path / "link"),
    ]
    for _ in range(2):
        assert _cli.main(arguments) == 0
        assert (tmp_path / "link").is_symlink()
        assert os.listdir(tmp_path / "files") == ["features"]
