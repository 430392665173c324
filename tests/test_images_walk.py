"""Which files of a folder are images: links, circles, what cannot be read, names, parts."""

import os
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from pyhue.images import scan_images, splits
from pyhue.images.splits import report


def write(path, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (200, 100, 50)).save(path, kind)
    return path


def folder(root, *classes):
    for name in classes:
        write(root / name / "0.png")
    return root


def names(images):
    return [
        (images.classes[label], path.name) for label, path in zip(images.labels, images.paths, strict=True)
    ]


KINDS = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["photo", "photo.jfif", "photo.jpg?width=10", "photo.download"])
def test_images_are_recognised_by_content(tmp_path, kind, name):
    if kind not in Image.SAVE:
        Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    folder(tmp_path, "ant")
    write(tmp_path / "ant" / name, kind)
    assert names(scan_images(tmp_path)) == [("ant", "0.png"), ("ant", name)]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "heic", "jxl", "svg", "ico", "tga", "psd", "jp2"])
def test_what_is_called_an_image_has_to_be_one(tmp_path, suffix):
    folder(tmp_path, "ant")
    (tmp_path / "ant" / f"photo.{suffix}").write_text("no picture")
    with pytest.raises(ValueError, match=rf"photo\.{suffix}: not an image that can be read"):
        scan_images(tmp_path)


@pytest.mark.parametrize("suffix", ["nef", "CR2", "dng", "arw"])
def test_the_preview_in_a_raw_photograph_is_not_taken_for_it(tmp_path, suffix):
    folder(tmp_path, "ant")
    write(tmp_path / "ant" / f"photo.{suffix}", "TIFF")
    with pytest.raises(ValueError, match=rf"photo\.{suffix}: .*raw photograph"):
        scan_images(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"P5", b"P5 of many", b"BM", b"BMW and others", b"II", b"RIFF....WAVE", b"MM"]
)
def test_text_that_begins_like_an_image_is_none(tmp_path, content):
    folder(tmp_path, "ant")
    (tmp_path / "ant" / "notes").write_bytes(content)
    images = scan_images(tmp_path)
    assert len(images.paths) == 1
    assert images.passed_over == [(tmp_path / "ant" / "notes", "not an image")]


NAMES = [
    ("train_set", "val_set"),
    ("trn", "tst"),
    ("TRN", "Val-Data"),
    ("trainset", "testset"),
    ("training data", "validation.set"),
    ("train_data", "test"),
]


@pytest.mark.parametrize(("first", "second"), NAMES)
def test_parts_by_other_names(tmp_path, first, second):
    for part in (first, second):
        folder(tmp_path / part, "ant", "bee")
    parts = splits(tmp_path)
    assert parts.train.classes == ["ant", "bee"]
    (other,) = [part for part in (parts.val, parts.test) if part]
    assert (parts.val is None) == ("t" in second[:1])
    assert other.paths[0].parent.parent.name == second
    folder(tmp_path, "cat")
    with pytest.raises(ValueError, match="which name parts of a data set, beside 'cat'"):
        splits(tmp_path)


@pytest.mark.parametrize("name", ["set", "data", "trained", "dataset", "strain_set", "value_set"])
def test_names_that_are_no_parts(tmp_path, name):
    folder(tmp_path, "ant", name)
    assert splits(tmp_path).train.classes == sorted(["ant", name])


def test_links_to_files_and_folders_are_followed(tmp_path):
    pool = folder(tmp_path / "pool", "a", "b/c", "d/e", "f")
    root = folder(tmp_path / "images", "ant")
    (root / "bee").symlink_to(pool / "b")
    (root / "ant" / "more").symlink_to(pool / "d")
    (root / "ant" / "one.png").symlink_to(pool / "f" / "0.png")
    images = scan_images(root)
    relative = [path.relative_to(root).as_posix() for path in images.paths]
    assert relative == ["ant/0.png", "ant/more/e/0.png", "ant/one.png", "bee/c/0.png"]
    assert not images.skipped
    (tmp_path / "link").symlink_to(root)
    assert len(scan_images(tmp_path / "link").paths) == 4


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "/", "../deep", "../../ant"])
def test_circles_of_links_end_and_lead_to_no_other_class(tmp_path, target):
    root = folder(tmp_path / "images", "ant", "ant/deep", "bee")
    (root / "ant" / "deep" / "loop").symlink_to(target, target_is_directory=True)
    images = scan_images(root)
    assert names(images) == [("ant", "0.png"), ("ant", "0.png"), ("bee", "0.png")]
    assert images.passed_over == [(root / "ant" / "deep" / "loop", "link to a folder that is read already")]


def test_a_class_that_links_back_is_none(tmp_path):
    root = folder(tmp_path / "images", "ant", "bee")
    (root / "all").symlink_to("..")
    images = scan_images(root)
    assert images.classes == ["ant", "bee"]
    assert images.passed_over == [(root / "all", "link to a folder that is read already")]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/bee/more", "../ant"),
        ("train/cat", "ant"),
        ("train/bee/1.png", "../ant/0.png"),
        ("test", "train"),
        ("test/bee", "../train/bee"),
        ("test/ant/1.png", "../../train/ant/0.png"),
        ("val", "test"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_one_image_in_two_classes_or_parts_is_refused(tmp_path, link, target, on_error):
    for part in ("train", "test"):
        folder(tmp_path / part, "ant", "bee")
    if (tmp_path / link).exists():
        shutil.rmtree(tmp_path / link)
    (tmp_path / link).symlink_to(target)
    kind = "class" if link.startswith("train") else "part"
    with pytest.raises(ValueError, match=rf"the same file as .*, which is in another {kind}$") as raised:
        splits(tmp_path, on_error)
    assert link in str(raised.value)


@pytest.mark.parametrize("place", ["", "ant", "ant/deep"])
@pytest.mark.parametrize("name", ["gone", "gone.png", "circle"])
def test_links_that_lead_nowhere_are_named_or_listed(tmp_path, place, name):
    folder(tmp_path, "ant", "ant/deep", "bee")
    link = tmp_path / place / name
    link.symlink_to(name if name == "circle" else "nowhere")
    with pytest.raises(
        ValueError, match=f"{name}: not an image that can be read: (link to nowhere|Too many)"
    ):
        scan_images(tmp_path)
    images = scan_images(tmp_path, "skip")
    assert [path for path, _ in images.skipped] == [link]
    assert len(images.paths) == 3


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_that_is_a_dangling_link_is_named_not_left_out(tmp_path, part):
    for name in {"train", "test", "val"} - {part}:
        folder(tmp_path / name, "ant", "bee")
    (tmp_path / part).symlink_to("nowhere")
    with pytest.raises(ValueError, match=f"{part}: not an image|none for training"):
        splits(tmp_path)


@pytest.fixture
def closed(monkeypatch):
    """Folders that may not be listed; to root, who may run the tests, the system refuses none."""
    found, scandir = [], os.scandir

    def refused(path):
        if os.fspath(path) in map(os.fspath, found):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    return found


@pytest.mark.parametrize("place", ["ant/deep", "ant/deep/deeper"])
def test_folders_that_cannot_be_read_are_named_or_listed(tmp_path, closed, place):
    folder(tmp_path, "ant", "bee", place)
    closed.append(tmp_path / place)
    with pytest.raises(ValueError, match=f"{place}: .*folder: Permission denied"):
        scan_images(tmp_path)
    assert scan_images(tmp_path, "skip").skipped == [(tmp_path / place, "folder: Permission denied")]


def test_a_class_that_cannot_be_read_is_an_error(tmp_path, closed):
    folder(tmp_path, "ant", "bee")
    closed.append(tmp_path / "bee")
    with pytest.raises(ValueError, match=r"bee: .*folder: Permission denied"):
        scan_images(tmp_path)
    with pytest.raises(ValueError, match="no image that can be read in 'bee'"):
        scan_images(tmp_path, "skip")
    closed.append(tmp_path)
    with pytest.raises(PermissionError):
        scan_images(tmp_path, "skip")


@pytest.mark.parametrize("parts", [("",), ("train", "test")])
@pytest.mark.parametrize("name", ["notes", "papers/notes", "papers/deep/notes", "papers/manual.pdf"])
def test_a_folder_without_an_image_is_no_class_whatever_else_cannot_be_read(tmp_path, parts, name):
    for part in parts:
        folder(tmp_path / part, "ant", "bee")
    link = tmp_path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("nowhere")
    with pytest.raises(ValueError, match=f"{name}: not an image that can be read: link to nowhere"):
        splits(tmp_path)
    images = splits(tmp_path, "skip").train
    assert images.classes == ["ant", "bee"]
    assert images.skipped == [(link, "link to nowhere, which is not there")]
    above = {path for path in link.parents if tmp_path in path.parents}
    assert (tmp_path / "papers", "folder without images") in images.passed_over or not above
    assert {path for path, _ in images.passed_over} <= above


@pytest.mark.parametrize("name", ["gone.jpg", "photo.nef", "deep/gone.PNG"])
def test_a_class_of_which_no_image_can_be_read_is_an_error(tmp_path, name):
    folder(tmp_path, "ant", "bee")
    link = tmp_path / "cat" / name
    link.parent.mkdir(parents=True)
    link.symlink_to("nowhere")
    with pytest.raises(ValueError, match="no image that can be read in 'cat'"):
        scan_images(tmp_path, "skip")


def test_empty_folders_are_no_classes_and_are_told(tmp_path):
    folder(tmp_path, "ant", "bee", "__MACOSX/ant", ".git/objects")
    (tmp_path / "cat" / "kitten").mkdir(parents=True)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("no dogs yet")
    (tmp_path / "classes.csv").write_text("ant,bee")
    images = scan_images(tmp_path)
    assert images.classes == ["ant", "bee"]
    assert {(path.relative_to(tmp_path).as_posix(), reason) for path, reason in images.passed_over} == {
        (".git", "hidden"),
        ("__MACOSX", "hidden"),
        ("cat", "folder without images"),
        ("cat/kitten", "folder without images"),
        ("classes.csv", "outside the folders of classes"),
        ("dog", "folder without images"),
        ("dog/notes.txt", "not an image"),
    }
    (line,) = report([images])
    assert "3 x folder without images ('cat', 'kitten', 'dog')" in line
    assert "2 x hidden ('.git', '__MACOSX')" in line


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_names_that_are_not_utf_8(tmp_path):
    folder(tmp_path, "ant", "bee")
    (tmp_path / "bee").rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe9e"))
    images = scan_images(tmp_path)
    assert images.classes == ["ant", "b\\udce9e"]
    assert images.labels.tolist() == [0, 1]
    folder(tmp_path, "b\\udce9e")
    with pytest.raises(ValueError, match="two folders of classes are called"):
        scan_images(tmp_path)


TRAIN, VAL, TEST = ("train", "training", "Train"), ("val", "valid", "validation", "VAL"), ("test", "testing")


@pytest.mark.parametrize("test", [None, *TEST])
@pytest.mark.parametrize("val", [None, *VAL])
@pytest.mark.parametrize("train", TRAIN)
def test_parts_are_recognised_by_every_name(tmp_path, train, val, test):
    for name in filter(None, (train, val, test)):
        folder(tmp_path / name, "ant", "bee")
    folder(tmp_path, "__MACOSX/train")
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.csv").write_text("")
    parts = splits(tmp_path)
    for part, name in zip(parts, (train, val, test), strict=True):
        assert (part is None) == (name is None)
        assert part is None or part.classes == ["ant", "bee"]
        assert part is None or {path.parts[-3] for path in part.paths} == {name}
    assert {path.name for path, _ in parts.train.passed_over} == {"__MACOSX", "empty", "labels.csv"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("train", "test", "unlabelled"), "'test', 'train', which .* beside 'unlabelled'"),
        (("valid", "testing"), "none for training"),
        (("testing",), "none for training"),
        (("validation", "test", "train", "extra"), "beside 'extra'"),
        (("train", "training"), "two of them for the same part"),
        (("train", "val", "valid"), "two of them for the same part"),
    ],
)
def test_parts_that_make_no_division_are_refused_with_a_hint(tmp_path, parts, message):
    for name in parts:
        folder(tmp_path / name, "ant", "bee")
    with pytest.raises(ValueError, match=f"{message}.*; expected train, val and test alone, or other names"):
        splits(tmp_path)


@pytest.mark.parametrize("name", ["train", "validation", "Testing"])
def test_one_part_beside_folders_of_another_kind_is_refused(tmp_path, name):
    folder(tmp_path, f"{name}/ant", f"{name}/bee", "unlabelled")
    with pytest.raises(ValueError, match=f"'{name}'.* beside 'unlabelled'"):
        splits(tmp_path)


@pytest.mark.parametrize("name", [*TRAIN, *VAL, *TEST])
def test_one_folder_of_such_a_name_among_others_is_a_class_and_told(tmp_path, name):
    images = splits(folder(tmp_path, "car", "plane", name)).train
    assert images.classes == sorted(["car", "plane", name])
    np.testing.assert_array_equal(images.labels, [0, 1, 2])
    assert report([images]) == [f"'{name}' is taken for a class, not for a part of the data set"]


def test_parts_are_not_taken_for_classes(tmp_path):
    for part in ("train", "val", "test"):
        folder(tmp_path / part, "ant", "tests")
    assert report([part for part in splits(tmp_path) if part]) == []
