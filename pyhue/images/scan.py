"""The images of some classes, each of them checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._stderr import progress_bar
from pyhue._text import printable
from pyhue.images._walk import EMPTY, OUTSIDE, SEEN, Found, Notes, find, look, may_be_class
from pyhue.images.decode import problem


class Images(NamedTuple):
    """Images of some classes."""

    paths: list[Path]  #: in order of class, then of path
    labels: NDArray[np.int64]  #: (n,), indices into `classes`
    classes: list[str]  #: names of the classes, sorted
    skipped: list[tuple[Path, str]]  #: files and folders that could not be read, each with the reason
    passed_over: Sequence[tuple[Path, str]] = ()  #: what is no image of a class, each with the reason


def scan_images(
    root: str | os.PathLike[str], on_error: str = "raise", classes: Sequence[str] | None = None
) -> Images:
    """Finds the images below a folder that holds one folder for each class, and checks each of them.

    Every file is decoded once, as :func:`decode_image` decodes it later, so that a damaged one is found now
    and not an hour into a training. Images are the files whose names end as those of images do, and those
    that begin as images do. Links are followed, to a folder once. Hidden files and folders, `__MACOSX`,
    folders without images and other files are passed over and listed in `passed_over`.

    Args:
        root: the folder.
        on_error: what an image, folder or link that cannot be read does: `"raise"` is an error that names the
            first of them and says how many there are, `"skip"` leaves them out and lists them in `skipped`;
            a folder that has nothing else, and nothing that is called as images are, is no class then.
        classes: names that labels index; None takes the names of the folders. A folder that is not among
            them is an error, a name without a folder is not.

    Returns:
        The images. Bytes of names that are not UTF-8 appear as `\\udc..` in `classes`.

    Raises:
        OSError: `root` is not a folder that can be read.
        ValueError: there is no folder of a class, a class has no image that can be read, links lead to one
            image from two classes, something cannot be read and `on_error` is `"raise"`, or an argument is
            wrong.
    """
    check_on_error(on_error)
    root = Path(root)
    found, skipped, passed_over = _classes(root, on_error)
    names = sorted(found) if classes is None else list(classes)
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise ValueError(f"{printable(root)}: {listed(unknown)} not among the classes to train on")
    index = {name: label for label, name in enumerate(names)}
    files = sorted((index[name], path) for name, part in found.items() for path in part.images)
    refuse_shared(files, "class")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(problem, (path for _, path in files))
        problems = list(progress_bar(checks, "reading images", len(files), unit="image", leave=False))
    skipped += [note for part in found.values() for note in part.unreadable]
    skipped += [(path, text) for (_, path), text in zip(files, problems, strict=True) if text]
    if on_error == "raise":
        refuse(skipped)
    kept = [pair for pair, text in zip(files, problems, strict=True) if not text]
    labels = np.array([label for label, _ in kept], np.int64)
    empty = [name for name in sorted(found) if index[name] not in labels]
    if empty:
        raise ValueError(f"{printable(root)}: no image that can be read in {listed(empty)}")
    return Images([path for _, path in kept], labels, names, sorted(skipped), sorted(passed_over))


def _classes(root: Path, on_error: str) -> tuple[dict[str, Found], Notes, Notes]:
    """By name the folders of classes; what elsewhere cannot be read or is passed over, as two lists."""
    top = look(root)
    unreadable, passed_over = top.unreadable, top.passed_over + [(path, OUTSIDE) for path in top.files]
    found: dict[str, Found] = {}
    for folder in top.folders:
        part = find(folder, root)
        passed_over += part.passed_over
        if not may_be_class(part, on_error):
            unreadable += part.unreadable
            if (folder, SEEN) not in part.passed_over:
                passed_over.append((folder, EMPTY))
        elif found.setdefault(printable(folder.name), part) is not part:
            raise ValueError(
                f"{printable(root)}: two folders of classes are called {printable(folder.name)!r}"
            )
    if not found:
        raise ValueError(
            f"{printable(root)}: expected one folder of images for each class, found no folder with images"
        )
    return found, unreadable, passed_over


def check_on_error(on_error: str) -> None:
    """Raises ValueError unless it is one of the two words."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")


def refuse(unreadable: Notes) -> None:
    """Raises ValueError that names the first of what cannot be read, if there is something."""
    if unreadable:
        path, text = min(unreadable)
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise ValueError(f"{printable(path)}: not an image that can be read: {printable(text)}{more}")


def refuse_shared(files: Iterable[tuple[int, Path]], kind: str) -> None:
    """Raises ValueError if links lead to one file from two groups: files with their groups, of some kind."""
    places: dict[str, tuple[int, Path]] = {}
    for group, path in files:
        first, other = places.setdefault(os.path.realpath(path), (group, path))
        if first != group:
            names = printable(path), printable(other)
            raise ValueError(f"{names[0]}: by a link the same file as {names[1]}, which is in another {kind}")


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
