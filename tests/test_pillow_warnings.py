"""What Pillow warns of in files that it reads is not printed by commands; functions let it pass."""

import struct
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from pictures import write_pictures
from PIL import Image

from pyhue import _cli
from pyhue.images import decode_image

TINY = ["--backbone", "resnet18-3x3-w2", "--image-size", "16"]


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A TIFF with a tag that is longer than the file, among ordinary images."""
    monkeypatch.chdir(tmp_path)
    root = write_pictures(tmp_path / "images", 2)
    path = root / "blue" / "tag.tif"
    Image.new("RGB", (16, 16)).save(path, tiffinfo={270: "x" * 20})
    content = path.read_bytes()
    at = content.index(struct.pack("<HHI", 270, 2, 21)) + 4
    path.write_bytes(content[:at] + struct.pack("<I", 2000) + content[at + 4 :])
    return root


def test_commands_print_none(images, monkeypatch, capsys):
    before = list(warnings.filters)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 16 x 16 is more, but not twice as much
    assert _cli.main(["features", "images", "--out", "f", *TINY]) == 0
    assert "7 images of 3 classes" in capsys.readouterr().out
    assert warnings.filters == before


def test_functions_let_them_pass(images, monkeypatch):
    with pytest.warns(UserWarning, match="Tag data larger than file"):
        decode_image(images / "blue" / "tag.tif", 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.warns(Image.DecompressionBombWarning):
        decode_image(images / "blue" / "000.png", 8)
