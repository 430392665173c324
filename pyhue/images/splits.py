"""Data sets in parts: folders for training, validation and test, or folds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._text import printable
from pyhue.images._walk import EMPTY, OUTSIDE, find, look, may_be_class
from pyhue.images.scan import Images, check_on_error, listed, refuse, refuse_shared, scan_images

#: What folders of parts are called, in any case; "set" or "data" may follow, as in train_set.
_PARTS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_SET = re.compile(r"[ ._-]?(set|data)$")


class Splits(NamedTuple):
    """The parts of a data set; labels mean the same in all of them."""

    train: Images
    val: Images | None  #: None without a folder of that part
    test: Images | None  #: None without a folder of that part: the folds of `train` take its place


def splits(root: str | os.PathLike[str], on_error: str = "raise") -> Splits:
    """Reads a data set that is either divided into folders for training, validation and test, or not divided.

    These are called `train`, `training` or `trn`, `val`, `valid` or `validation`, `test`, `testing` or `tst`,
    in capitals or not, with `set` or `data` behind or not (`train_set`). It counts as divided when all
    folders with images are such parts, one of them for training, each with one folder for each class.
    Otherwise everything is in `train`, and a single folder of such a name that has images itself, not in
    folders of its own, counts as a class.

    Args:
        root: the folder.
        on_error: as in :func:`scan_images`.

    Raises:
        OSError, ValueError: as in :func:`scan_images`; or there are fewer than two classes, a class of
            another part is not in `train`, links lead to one image from two parts, or a data set is divided
            in a way that is not this one: parts beside other folders, none for training, or one twice.
    """
    check_on_error(on_error)
    root = Path(root)
    top = look(root)
    named = [path.name for path in top.folders if _part(path.name)]
    others = [(path, find(path, root)) for path in top.folders if path.name not in named] if named else []
    unreadable = top.unreadable + [note for _, found in others for note in found.unreadable]
    if named and on_error == "raise":
        refuse(unreadable)
    parts = _parts(root, named, [path.name for path, found in others if may_be_class(found, on_error)])
    if parts:
        train = scan_images(root / parts["train"], on_error)
        outside = [(path, OUTSIDE) for path in top.files] + [(path, EMPTY) for path, _ in others]
        outside += [note for _, found in others for note in found.passed_over]
        train = train._replace(
            skipped=unreadable + train.skipped,
            passed_over=[*top.passed_over, *outside, *train.passed_over],
        )
    else:
        train = scan_images(root, on_error)
    if len(train.classes) < 2:
        raise ValueError(
            f"{printable(root)}: expected at least two classes to train on, found {listed(train.classes)}"
        )
    val, test = (
        scan_images(root / parts[part], on_error, train.classes) if part in parts else None
        for part in ("val", "test")
    )
    whole = Splits(train, val, test)
    files = ((number, path) for number, part in enumerate(whole) if part for path in part.paths)
    refuse_shared(files, "part")
    return whole


def _part(name: str) -> str:
    """The part that a folder is called as; empty for other names."""
    return _PARTS.get(_SET.sub("", name.lower()), "")


def _parts(root: Path, named: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """The folders of the parts that there are; empty for a data set that is not divided.

    Args:
        root: for the error message.
        named: folders that are called as parts are.
        others: other folders that have images.
    """
    parts = {_part(name): name for name in named}
    if not named or (len(named) == 1 and others and _is_class(root / named[0], root)):
        return {}
    if others:
        wrong = f"beside {listed(others)}"
    elif "train" not in parts:
        wrong = "but none for training"
    elif len(parts) < len(named):
        wrong = "two of them for the same part"
    else:
        return parts
    raise ValueError(
        f"{printable(root)}: has folders {listed(named)}, which name parts of a data set, {wrong}; "
        "expected train, val and test alone, or other names where these are classes"
    )


def _is_class(folder: Path, root: Path) -> bool:
    """Whether a folder has images itself, as no part has, or none at all."""
    images = find(folder, root).images
    return not images or any(path.parent == folder for path in images)


def report(parts: Sequence[Images]) -> list[str]:
    """What was left out, in lines for people: every file that was skipped, and a sum of the rest.

    And what was taken for a class though it is called as parts of a data set are.
    """
    lines = [f"skipped {printable(path)}: {printable(text)}" for part in parts for path, text in part.skipped]
    if lines:
        lines.append(f"skipped {len(lines)} of the files")
    by_reason: dict[str, list[str]] = {}
    for path, text in (note for part in parts for note in part.passed_over):
        by_reason.setdefault(text, []).append(path.name)
    if by_reason:
        sums = [f"{len(names)} x {text} ({listed(names, 3)})" for text, names in sorted(by_reason.items())]
        lines.append(f"passed over: {'; '.join(sums)}")
    doubtful = [name for name in parts[0].classes if _part(name)]
    return lines + [f"{name!r} is taken for a class, not for a part of the data set" for name in doubtful]


def stratified_folds(
    labels: NDArray[np.int64], k: int, seed: int, classes: Sequence[str] | None = None
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divides images into k folds with every class in proportion, by scikit-learn's StratifiedKFold.

    Args:
        labels: classes (n,).
        k: number of folds, at least 2.
        seed: the same seed, the same folds.
        classes: names of the classes, for the error message.

    Returns:
        For each fold the indices of the other folds' images, to train on, and of its own, to test on.

    Raises:
        ValueError: k is below 2, or a class has fewer than k images.
    """
    from sklearn.model_selection import StratifiedKFold  # here: who reads images only does not need it

    if k < 2:
        raise ValueError(f"k: expected at least 2 folds, got {k}")
    values, counts = np.unique(labels, return_counts=True)
    if len(counts) and counts.min() < k:
        label = values[counts.argmin()]
        name = f"class {label}" if classes is None else f"class {classes[label]!r}"
        raise ValueError(f"{k} folds need at least {k} images of each class, {name} has {counts.min()}")
    folds = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in folds]
