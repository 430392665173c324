"""What every kind of image file becomes; that checking an image is decoding it."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("PIL")

from PIL import Image, ImageOps

from pyhue.images import decode_image, scan_images
from pyhue.images.decode import problem

RAMP = np.tile(np.array([0, 51, 102, 153, 204, 255], np.uint8), (6, 1))  # grey, as 8 bits
WIDE = RAMP.astype(np.uint16) * 257  # the same of 65,535


def pgm(values, largest, plain=False):
    head = f"P{2 if plain else 5} {values.shape[1]} {values.shape[0]} {largest}\n".encode()
    if plain:
        return head + " ".join(map(str, values.ravel())).encode()
    return head + values.astype(">u2" if largest > 255 else "u1").tobytes()


def saved(image, suffix, **options):
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def grey(values):
    return Image.fromarray(np.ascontiguousarray(values))


def tiff(values, bits, photometric=1, sample_format=1, order="<"):
    """An uncompressed grey TIFF, of which Pillow writes only some kinds; `values` as they are stored."""
    height, width = RAMP.shape
    data = values.tobytes()
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    rows = b"".join(
        struct.pack(order + "HHI", tag, kind, 1)
        + (struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value))
        for tag, kind, value in tags
    )
    return head + data + struct.pack(order + "H", len(tags)) + rows + bytes(4)


def twelve_bits(values):
    """Two values in three bytes."""
    a, b = values[:, ::2], values[:, 1::2]
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=-1).astype(np.uint8)


def transparent(values):
    image = grey(values).convert("RGB")
    image.putalpha(7)
    return image


UNIT = RAMP / np.float32(255)
BLACK = Image.new("L", (6, 6))
PALETTE = grey(RAMP).convert("P")
GREY = {
    "L png": saved(grey(RAMP), "PNG"),
    "16-bit png": saved(grey(WIDE), "PNG"),
    "16-bit tiff": saved(grey(WIDE), "TIFF"),
    "16-bit tiff, big-endian": tiff(WIDE.astype(">u2"), 16, order=">"),
    "16-bit tiff, white is 0": tiff(65535 - WIDE, 16, photometric=0),
    "8-bit tiff, white is 0": tiff(255 - RAMP, 8, photometric=0),
    "12-bit tiff": tiff(twelve_bits(RAMP.astype(int) * 4095 // 255), 12),
    "8-bit pgm": pgm(RAMP, 255),
    "4-bit pgm": pgm(RAMP // 17, 15),
    "16-bit pgm": pgm(WIDE, 65535),
    "10-bit pgm": pgm(RAMP.astype(int) * 1020 // 255, 1020),
    "16-bit plain pgm": pgm(WIDE, 65535, plain=True),
    "float tiff": saved(grey(UNIT), "TIFF"),
    "float tiff, white is 0": tiff(1 - UNIT, 32, photometric=0, sample_format=3),
    "float tiff that misses 0 and 1 by rounding": saved(grey(UNIT * np.float32(1.00002) - 1e-5), "TIFF"),
    "float pfm": b"Pf\n6 6\n-1.0\n" + UNIT.tobytes(),
    "LA png": saved(Image.merge("LA", [grey(RAMP), BLACK]), "PNG"),
    "RGBA png": saved(transparent(RAMP), "PNG"),
    "RGBA webp": saved(transparent(RAMP), "WEBP", lossless=True, exact=True),
    "RGBA tiff": saved(transparent(RAMP), "TIFF"),
    "L png with a transparent value": saved(grey(RAMP), "PNG", transparency=51),
    "RGB png with a transparent colour": saved(grey(RAMP).convert("RGB"), "PNG", transparency=(51, 51, 51)),
    "P png": saved(PALETTE, "PNG"),
    "P png with a transparent colour": saved(PALETTE, "PNG", transparency=51),
    "P png with opacities": saved(PALETTE, "PNG", transparency=bytes([0, 128, 3] * 80)),
    "P gif with a transparent colour": saved(PALETTE, "GIF", transparency=51),
    "CMYK tiff": saved(Image.merge("CMYK", [BLACK] * 3 + [grey(255 - RAMP)]), "TIFF"),
    "CMYK jpeg": saved(Image.merge("CMYK", [BLACK] * 3 + [grey(255 - RAMP)]), "JPEG", quality=100),
}


@pytest.mark.parametrize("kind", GREY)
def test_a_grey_ramp_is_the_same_in_every_kind_of_file(tmp_path, kind):
    (tmp_path / "image").write_bytes(GREY[kind])
    expected = np.broadcast_to(RAMP, (3, 6, 6))
    loss = 3 if "jpeg" in kind else 1
    np.testing.assert_allclose(decode_image(tmp_path / "image", 6), expected, atol=loss)


COLOURS = {
    "RGB": ((200, 100, 50), (200, 100, 50)),
    "RGBA": ((200, 100, 50, 0), (200, 100, 50)),
    "CMYK": ((55, 155, 205, 0), (200, 100, 50)),
    "YCbCr": ((0, 128, 128), (0, 0, 0)),
    "LAB": ((255, 128, 128), (255, 255, 255)),
    "1": (1, (255, 255, 255)),
    "L": (100, (100, 100, 100)),
    "LA": ((100, 0), (100, 100, 100)),
    "I;16": (100 * 256, (100, 100, 100)),
    "F": (0.5, (128, 128, 128)),
}


@pytest.mark.parametrize("mode", COLOURS)
def test_modes_keep_their_colours(tmp_path, mode):
    stored, expected = COLOURS[mode]
    Image.new(mode, (8, 8), stored).save(tmp_path / "image.tif")
    with Image.open(tmp_path / "image.tif") as image:
        assert image.mode == mode
    pixels = decode_image(tmp_path / "image.tif", 4)
    np.testing.assert_allclose(pixels[:, 2, 2], expected, atol=2)


REFUSED = {
    "int32 tiff of 8 bits": saved(grey(RAMP.astype(np.int32)), "TIFF"),
    "int32 tiff of 16 bits": saved(grey(WIDE.astype(np.int32)), "TIFF"),
    "uint32 tiff": tiff(WIDE.astype(np.uint32), 32),
    "int16 tiff": tiff(RAMP.astype(np.int16), 16, sample_format=2),
    "float tiff up to 255": saved(grey(RAMP.astype(np.float32)), "TIFF"),
    "negative float tiff": saved(grey(RAMP / np.float32(255) - 1), "TIFF"),
    "float tiff with NaN": saved(grey(np.full((2, 2), np.nan, np.float32)), "TIFF"),
    "float tiff with infinity": saved(grey(np.full((2, 2), np.inf, np.float32)), "TIFF"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_does_not_say_what_is_white_is_refused(tmp_path, kind):
    (tmp_path / "image.tif").write_bytes(REFUSED[kind])
    with pytest.raises(ValueError, match=r"image\.tif: .*nothing says what is white"):
        decode_image(tmp_path / "image.tif", 4)
    assert "nothing says what is white" in problem(tmp_path / "image.tif")


def test_of_several_pictures_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix in ("gif", "tif", "png", "webp"):
        frames[0].save(tmp_path / f"image.{suffix}", save_all=True, append_images=frames[1:])
        red, _, blue = decode_image(tmp_path / f"image.{suffix}", 4)[:, 2, 2]
        assert red > 200 > 50 > blue


# Turned photographs: EXIF blocks written by hand, (tag, type, count, value of four bytes) each.
SIX = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
BLOCKS = {
    "well typed": [SIX],
    "orientation as 32 bits": [(0x0112, 4, 1, struct.pack("<I", 6))],
    "orientation signed": [(0x0112, 8, 1, struct.pack("<hH", 6, 0))],
    "width as text": [(0x0100, 2, 4, b"abc\0"), SIX],
    "width as a fraction": [(0x0100, 5, 1, struct.pack("<I", 8)), SIX],
    "resolution as text": [SIX, (0x011A, 2, 4, b"abc\0")],
    "resolution as bytes": [SIX, (0x011A, 7, 4, b"\1\2\3\4")],
    "resolution as an integer": [SIX, (0x011A, 4, 1, struct.pack("<I", 72))],
    "resolution beyond the end": [SIX, (0x011A, 5, 1, struct.pack("<I", 60000))],
    "date as an integer": [SIX, (0x0132, 3, 1, b"\1\0\0\0")],
    "maker as a float": [(0x010F, 11, 1, struct.pack("<f", 1.5)), SIX],
    "maker as two fractions": [(0x010F, 5, 2, struct.pack("<I", 8)), SIX],
    "maker without a value": [(0x010F, 2, 0, bytes(4)), SIX],
    "Exif folder as text": [SIX, (0x8769, 2, 4, b"abc\0")],
    "Exif folder beyond the end": [SIX, (0x8769, 4, 1, struct.pack("<I", 60000))],
    "Exif folder in a circle": [SIX, (0x8769, 4, 1, struct.pack("<I", 8))],
    "GPS folder as two integers": [SIX, (0x8825, 3, 2, b"\1\0\2\0")],
    "tag of an unknown type": [SIX, (0x9286, 99, 1, bytes(4))],
    "tag of type 0": [SIX, (0x9286, 0, 1, bytes(4))],
    "huge count": [SIX, (0x9286, 7, 2**32 - 1, bytes(4))],
    "orientation twice": [SIX, SIX],
    "two orientations": [(0x0112, 3, 2, struct.pack("<HH", 6, 6))],
}
UNKNOWN = {
    "orientation as a byte": [(0x0112, 1, 1, b"\6\0\0\0")],
    "orientation 0": [(0x0112, 3, 1, bytes(4))],
    "orientation 9": [(0x0112, 3, 1, struct.pack("<HH", 9, 0))],
    "orientation as text": [(0x0112, 2, 2, b"6\0\0\0")],
    "orientation as bytes": [(0x0112, 7, 1, b"\6\0\0\0")],
    "no orientation": [(0x0112, 3, 0, bytes(4))],
    "orientation beyond the end": [(0x0112, 5, 1, struct.pack("<I", 60000))],
    "orientation as a fraction by 0": [(0x0112, 5, 1, struct.pack("<I", 26)), (0x9286, 4, 1, bytes(4))],
}


def exif(entries):
    rows = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4)


def photograph(path, block, kind):
    """Left half white, right half black, as it is stored; with orientation 6 the upper half is white."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(path, kind, exif=block)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", [*BLOCKS, *UNKNOWN, "no block", "cut", "zeros"])
def test_a_photograph_with_a_badly_typed_exif_block_is_read(tmp_path, name, kind):
    blocks = {key: exif(entries) for key, entries in (BLOCKS | UNKNOWN).items()}
    blocks |= {"no block": b"Exif\0\0nothing", "cut": exif(BLOCKS["well typed"])[:20], "zeros": bytes(64)}
    (tmp_path / "ant").mkdir()
    photograph(tmp_path / "ant" / "image", blocks[name], kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about some of the blocks
        (path,) = scan_images(tmp_path).paths
        pixels = decode_image(path, 8)[0]
    if name in BLOCKS:
        assert pixels[:3].min() > 250 > 5 > pixels[5:].max()
    else:
        assert pixels[:, :3].min() > 250 > 5 > pixels[:, 5:].max()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright_once(tmp_path, kind, orientation):
    stored = np.zeros((32, 32, 3), np.uint8)
    stored[:16, :16], stored[:16, 16:] = 255, (255, 0, 0)
    Image.fromarray(stored).save(
        tmp_path / "image", kind, exif=exif([(0x0112, 3, 1, bytes([orientation, 0, 0, 0]))])
    )
    with Image.open(tmp_path / "image") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = decode_image(tmp_path / "image", 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(found, expected)


LONG = """
import resource, sys
from pyhue.images import decode_image
from PIL import Image
decode_image(sys.argv[1], 224)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = decode_image(sys.argv[2], 224)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, pixels.min(), pixels.max())
"""


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_000), (60_000, 2)])
def test_a_long_image_takes_no_more_memory_than_its_pixels(tmp_path, shape):
    """Scaled before it is cropped, the first would take 4 GiB."""
    width, height = shape
    pixels = np.zeros((height, width), np.uint8)
    pixels[(height - 1) // 2 :, :][: 2 - height % 2] = 200
    pixels[:, : (width - 1) // 2] = pixels[:, width // 2 + 1 :] = 0
    Image.fromarray(pixels).save(tmp_path / "long.png")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    command = [sys.executable, "-c", LONG, str(tmp_path / "small.png"), str(tmp_path / "long.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    kibibytes, least, most = map(int, done.stdout.split())
    assert kibibytes < 64 << 10
    assert most == 200
    assert least >= 90


def test_a_file_of_too_many_pixels_is_refused(tmp_path):
    """A header is enough to claim them."""
    whole = saved(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + whole[24:29]
    path = tmp_path / "image.png"
    path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    with pytest.raises(ValueError, match=r"image\.png: .*exceeds limit"):
        decode_image(path, 8)
    assert "exceeds limit" in problem(path)


def files():
    """One file of every format that Pillow writes here, with an EXIF block where there can be one."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    image = Image.fromarray(noise)
    block = exif(BLOCKS["well typed"])
    made = {kind: saved(image, kind) for kind in ("BMP", "GIF", "ICO", "PCX", "PPM", "QOI", "SGI", "TGA")}
    made |= {kind: saved(image, kind, exif=block) for kind in ("JPEG", "PNG", "TIFF", "WEBP")}
    made["progressive JPEG"] = saved(image, "JPEG", progressive=True, exif=block)
    made["CMYK JPEG"] = saved(image.convert("CMYK"), "JPEG")
    made["deflated TIFF"] = saved(image, "TIFF", compression="tiff_adobe_deflate")
    made["16-bit PGM"] = GREY["16-bit pgm"]
    made["palette PNG"] = saved(image.convert("P"), "PNG", transparency=3)
    return made


FILES = files()


@pytest.mark.parametrize("strict", [True, False], ids=["warnings are errors", "warnings pass"])
@given(data=st.data())
def test_an_image_passes_the_check_if_and_only_if_it_can_be_decoded(tmp_path_factory, strict, data):
    content = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, min(len(content), 300) - 1))
        content[place] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    path = tmp_path_factory.getbasetemp() / f"image-{strict}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        text = problem(path)
        for size in (1, 7, 40):
            if text:
                with pytest.raises(ValueError, match="not an image that can be read"):
                    decode_image(path, size)
            else:
                assert decode_image(path, size).shape == (3, size, size)
