"""Which files below a folder are images, by name or by content; nothing that is there goes unmentioned."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

#: What the names of images end with: a file of such a name has to be one.
_IMAGE = re.compile(
    r"\.(apng|avifs?|bmp|dib|gif|heic|heif|ico|j2k|jfif|jp2|jpe|jpeg|jpg|jxl|pbm|pcx|pfm|pgm|png|pnm|ppm|psd"
    r"|qoi|sgi|svg|tga|tiff?|webp)",
    re.IGNORECASE,
)
#: Cameras' own formats: TIFF files, of which Pillow reads a preview the size of a stamp.
_RAW = re.compile(
    r"\.(3fr|arw|cr2|cr3|crw|dng|erf|nef|nrw|orf|pef|raf|rw2|sr2|srw|x3f)",
    re.IGNORECASE,
)
#: What other images begin with.
_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II[*+]\0|MM\0[*+]|RIFF....WEBP|8BPS|qoif"
    rb"|....ftyp(avi[fs]|hei[cfmsx]|hev[cmsx]|mif1|msf1)|\0\0\0\x0c(jP  |JXL )|\xff\x4f\xff\x51|\xff\x0a",
    re.DOTALL,
)
_WEAK = ("BMP", "PPM")  # signatures of two letters: only a whole header tells them from text

#: Why something is passed over.
HIDDEN, NO_IMAGE, EMPTY, SEEN, SPECIAL, OUTSIDE = (
    "hidden",
    "not an image",
    "folder without images",
    "link to a folder that is read already",
    "neither file nor folder",
    "outside the folders of classes",
)
Notes = list[tuple[Path, str]]


class Entries(NamedTuple):
    """What is directly in a folder, sorted; links are followed."""

    folders: list[Path]
    files: list[Path]
    unreadable: Notes
    passed_over: Notes


class Found(NamedTuple):
    """What is below a folder."""

    images: list[Path]
    unreadable: Notes  #: files and folders that cannot be read, and dangling links
    passed_over: Notes


def look(folder: Path) -> Entries:
    """Lists a folder; `__MACOSX` counts as hidden. Raises OSError where the folder cannot be read."""
    found = Entries([], [], [], [])
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except NotADirectoryError as error:
        why = "not a folder; expected one with a folder of images for each class"
        raise NotADirectoryError(error.errno, why, str(folder)) from None
    for name in names:
        path = folder / name
        if name.startswith(".") or name == "__MACOSX":
            found.passed_over.append((path, HIDDEN))
            continue
        try:
            mode = path.stat().st_mode
        except OSError as error:
            found.unreadable.append((path, reason(error, path)))
            continue
        if stat.S_ISDIR(mode):
            found.folders.append(path)
        elif stat.S_ISREG(mode):
            found.files.append(path)
        else:
            found.passed_over.append((path, SPECIAL))
    return found


def find(folder: Path, root: Path) -> Found:
    """Searches a folder and those below it.

    A folder is read once, whichever links lead to it, and no link leads out to the folders that `folder`
    lies in: they have the images of other classes.
    """
    found = Found([], [], [])
    seen = {_identity(path) for path in (*root.resolve().parents, root, *folder.resolve().parents)}
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            identity = _identity(here)
            if identity in seen:
                found.passed_over.append((here, SEEN))
                continue
            seen.add(identity)
            inside = look(here)
        except OSError as error:
            found.unreadable.append((here, f"folder: {reason(error, here)}"))
            continue
        found.unreadable.extend(inside.unreadable)
        found.passed_over.extend(inside.passed_over)
        waiting.extend(reversed(inside.folders))
        _sort(inside.files, found)
        if here != folder and not any(inside):
            found.passed_over.append((here, EMPTY))
    return found


def may_be_class(found: Found, on_error: str) -> bool:
    """Whether a folder has images, or what cannot be read may be some.

    With "skip", other than with "raise", a link or file that cannot be read has to be called as images are.
    """
    return bool(found.images) or any(
        on_error == "raise" or os.path.isdir(path) or _called_image(path) for path, _ in found.unreadable
    )


def reason(error: OSError, path: Path) -> str:
    """Why something cannot be read."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"link to {os.readlink(path)}, which is not there"
    return error.strerror or str(error)


def _sort(files: Iterable[Path], found: Found) -> None:
    for path in files:
        if _RAW.fullmatch(path.suffix):
            found.unreadable.append((path, "raw photograph; convert it to JPEG, PNG or TIFF"))
            continue
        try:
            image = _called_image(path) or _begins_as_image(path)
        except OSError as error:
            found.unreadable.append((path, reason(error, path)))
            continue
        if image:
            found.images.append(path)
        else:
            found.passed_over.append((path, NO_IMAGE))


def _called_image(path: Path) -> bool:
    return bool(_IMAGE.fullmatch(path.suffix) or _RAW.fullmatch(path.suffix))


def _begins_as_image(path: Path) -> bool:
    with open(path, "rb") as file:
        if _SIGNATURE.match(file.read(16)):
            return True
    try:
        with Image.open(path, formats=_WEAK):
            return True
    except Exception:  # as in decode.py
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
