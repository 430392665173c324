import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from pyhue.images import decode_image, load_image, scan_images, splits, stratified_folds


def write(path, size=(8, 6), color=(200, 100, 50), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    for name in ("bee", "ant", "cat"):
        for number in range(3):
            write(tmp_path / name / f"{number}.png")
    return tmp_path


def damage(path):
    """Cuts the file in two: the header can be read, the pixels cannot."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def test_classes_are_sorted_folders_and_labels_index_them(root):
    images = scan_images(root)
    assert images.classes == ["ant", "bee", "cat"]
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [path.parent.name for path in images.paths] == [images.classes[i] for i in images.labels]
    assert images.skipped == []


def test_other_and_hidden_files_are_passed_over_and_folders_searched(root):
    (root / "ant" / "notes.txt").write_text("no image")
    (root / "ant" / ".hidden.png").write_bytes(b"")
    write(root / ".cache" / "a.png")
    deep = write(root / "ant" / "more" / "deep.PNG")
    images = scan_images(root)
    assert deep in images.paths
    assert len(images.paths) == 10


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_damaged_image_is_named_or_skipped(root, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = root / "bee" / f"damaged.{suffix}"
    Image.fromarray(noise).save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"damaged\.\w+: not an image"):
        scan_images(root)
    images = scan_images(root, on_error="skip")
    assert [skipped for skipped, _ in images.skipped] == [path]
    assert len(images.paths) == len(images.labels) == 9


def test_empty_files_are_counted(root):
    for name in ("x.png", "y.png"):
        (root / "cat" / name).touch()
    with pytest.raises(ValueError, match=r"cat/x\.png: .*the file is empty \(and 1 more\)"):
        scan_images(root)
    assert [reason for _, reason in scan_images(root, "skip").skipped] == ["the file is empty"] * 2


def test_a_class_without_any_readable_image_is_an_error_even_when_skipping(root):
    for path in (root / "ant").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no image that can be read in 'ant'"):
        scan_images(root, on_error="skip")


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="found no folder"):
        scan_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        scan_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="on_error"):
        scan_images(tmp_path, on_error="ignore")


def test_one_class_is_too_few(tmp_path):
    write(tmp_path / "ant" / "0.png")
    with pytest.raises(ValueError, match="at least two classes to train on, found 'ant'"):
        splits(tmp_path)


def test_undivided_data_are_all_for_training(root):
    write(root / "train" / "0.png")  # a class of this name, not a part
    parts = splits(root)
    assert parts.train.classes == ["ant", "bee", "cat", "train"]
    assert parts.val is None
    assert parts.test is None


def test_divided_data_share_the_classes_of_train(tmp_path):
    for name in ("ant", "bee", "cat"):
        write(tmp_path / "train" / name / "0.png")
    write(tmp_path / "test" / "cat" / "0.png")
    parts = splits(tmp_path)
    assert parts.val is None
    assert parts.test.classes == parts.train.classes == ["ant", "bee", "cat"]
    assert parts.test.labels.tolist() == [2]
    write(tmp_path / "test" / "dog" / "0.png")
    with pytest.raises(ValueError, match="test: 'dog' not among the classes to train on"):
        splits(tmp_path)


def test_folds_cover_everything_once_and_keep_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    folds = stratified_folds(labels, 5, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(60))
    for train, test in folds:
        assert not set(train) & set(test)
        assert np.bincount(labels[test]).tolist() == [2, 4, 6]
    again = stratified_folds(labels, 5, seed=3)
    assert all((a[1] == b[1]).all() for a, b in zip(folds, again, strict=True))
    assert any((a[1] != b[1]).any() for a, b in zip(folds, stratified_folds(labels, 5, seed=4), strict=True))


def test_too_few_images_for_the_folds_names_the_class():
    labels = np.array([0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="3 folds need at least 3 images of each class, class 'bee' has 2"):
        stratified_folds(labels, 3, 0, ["ant", "bee"])
    with pytest.raises(ValueError, match="k: expected at least 2"):
        stratified_folds(labels, 1, 0)


@pytest.mark.parametrize("shape", [(90, 30), (30, 90), (31, 30), (7, 5), (16, 16)])
def test_the_centre_of_the_image_is_loaded(tmp_path, shape):
    width, height = shape
    x, y = np.meshgrid(2 * np.arange(width) + 1 - width, 2 * np.arange(height) + 1 - height)
    inside = (np.abs(x) <= min(shape)) & (np.abs(y) <= min(shape))
    pixels = np.stack([255 * inside, 255 * ~inside, 0 * x], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    loaded = load_image(tmp_path / "image.png", 16)
    assert loaded.shape == (3, 16, 16)
    assert loaded.dtype == np.float32
    assert loaded[0].min() > 0.5
    assert loaded.max() <= 1
    decoded = decode_image(tmp_path / "image.png", 16)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_allclose(loaded * 255, decoded, atol=1e-4)


def test_scaling_down_is_antialiased(tmp_path):
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    assert np.abs(load_image(tmp_path / "checks.png", 8) - 0.5).max() < 0.05


def test_every_mode_becomes_rgb(tmp_path):
    grey16 = np.full((8, 8), 128 << 8, np.uint16)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    assert load_image(tmp_path / "grey16.png", 8) == pytest.approx(np.full((3, 8, 8), 128 / 255), abs=1e-6)
    for mode, color in {"L": 100, "1": 1, "RGBA": (9, 9, 9, 0), "LA": (9, 3), "CMYK": (0, 0, 0, 0)}.items():
        path = tmp_path / (f"{mode}.tif" if mode == "CMYK" else f"{mode}.png")
        assert load_image(write(path, color=color, mode=mode), 6).shape == (3, 6, 6)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    assert load_image(tmp_path / "palette.png", 8)[:, 0, 0].tolist() == [1, 0, 0]


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: the top is at the right of the stored picture
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned)
    loaded = load_image(tmp_path / "turned.png", 8)
    assert loaded[:, :4].min() == 1
    assert loaded[:, 4:].max() == 0


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png: not an image"):
        load_image(path, 8)
    with pytest.raises(ValueError, match="size: expected at least 1"):
        load_image(path, 0)


@pytest.mark.parametrize("size", [1.5, "8", True])
def test_a_size_that_is_no_integer_is_not_the_files_fault(size):
    with pytest.raises(TypeError, match=r"^size: expected an integer"):
        decode_image("absent.png", size)
