"""A folder with every odd file that people's folders have, and what has to become of each."""

import os
import shutil
import struct
import sys
import zlib
from typing import NamedTuple

import numpy as np
from pictures import write_pictures
from PIL import Image

TURNED = b"Exif\0\0II*\0" + struct.pack(
    "<IHHHIHHHHI4sI", 8, 2, 0x0100, 2, 4, 24930, 99, 0x0112, 3, 1, b"\6\0\0\0", 0
)


class Odd(NamedTuple):
    """What was written."""

    good: int  #: images that can be read
    skipped: set[str]  #: names of what cannot be read
    passed_over: set[str]  #: names of what is no image of a class


def write_odd_folder(root, count=4):
    """Writes `count` ordinary images for each of two classes, and the odd ones beside them."""
    write_pictures(root, count, ["blue", "red"])
    blue, red = root / "blue", (root / "red").rename(root / "re$d$")
    good = _readable(blue)
    for name, write in UNREADABLE.items():
        write(red / name)
    for name, write in PASSED_OVER.items():
        write(red / name)
        write(root / name)
    (root / "loose.png").write_bytes((blue / "000.png").read_bytes())
    return Odd(2 * count + good, set(UNREADABLE), {*PASSED_OVER, "loose.png"})


def _readable(folder):
    """Images under other names, behind links, of odd modes and shapes; how many."""
    whole = folder / "000.png"
    Image.open(whole).save(folder / "photo.jfif", "JPEG", exif=TURNED)
    Image.open(whole).save(folder / "no suffix", "JPEG")
    shutil.copy(whole, folder / "download.png?size=large")
    Image.new("L", (20_000, 1), 99).save(folder / "long.png")
    grey = np.asarray(Image.open(whole).convert("L"))
    head = f"P5 {grey.shape[1]} {grey.shape[0]} 65535\n".encode()
    (folder / "16 bits.pgm").write_bytes(head + (grey.astype(">u2") * 257).tobytes())
    Image.fromarray(grey / np.float32(255)).save(folder / "float.tif")
    Image.open(whole).convert("LA").save(folder / "LA.png")
    Image.open(whole).convert("CMYK").save(folder / "CMYK.jpg")
    Image.open(whole).convert("P").save(folder / "transparent.png", transparency=3)
    pool = folder.parent.parent / "pool"
    pool.mkdir()
    shutil.copy(whole, pool / "far.png")
    (folder / "linked folder").symlink_to(pool.resolve(), target_is_directory=True)
    (folder / "linked.png").symlink_to(whole.resolve())
    written = 11
    if sys.platform == "linux":  # others allow UTF-8 only
        shutil.copy(whole, os.fsencode(folder) + b"/latin-\xe9.png")
        (folder / "deeper").mkdir()
        shutil.copy(whole, os.fsencode(folder) + b"/deeper/\xff\xfe")
        written += 2
    return written


def _cut(path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])


def _huge(path):
    Image.new("L", (1, 1)).save(path)
    whole = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + whole[24:29]
    path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])


def _circle(path):
    path.symlink_to(path.name)


UNREADABLE = {
    "empty.png": lambda path: path.touch(),
    "cut.png": _cut,
    "cut.jpg": _cut,
    "text.jpg": lambda path: path.write_text("no picture"),
    "begins as one": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0 and no more"),
    "huge.png": _huge,
    "32 bits.tif": lambda path: Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(path),
    "floats to 255.tif": lambda path: Image.fromarray(np.full((8, 8), 255, np.float32)).save(path),
    "photo.heic": lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(64)),
    "photo.NEF": lambda path: Image.new("RGB", (8, 8)).save(path, "TIFF"),
    "dangling.png": lambda path: path.symlink_to("nowhere.png"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "circle": _circle,
}
PASSED_OVER = {
    "notes.txt": lambda path: path.write_text("P5 is a letter and a number"),
    "BMW": lambda path: path.write_text("BM"),
    "Thumbs.db": lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0" + bytes(64)),
    ".hidden.png": lambda path: path.touch(),
    ".cache": lambda path: write_pictures(path, 1),
    "__MACOSX": lambda path: write_pictures(path, 1),
    "nothing in it": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "back": lambda path: path.symlink_to("..", target_is_directory=True),
}
