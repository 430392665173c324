"""`pyhue memory`: memories on disk."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyhue._arrays import asked_recall, positive_integer
from pyhue._cli.common import Commands, add_command, show
from pyhue._cli.data import read_features
from pyhue._stderr import on_terminal, progress_bar, say

if TYPE_CHECKING:
    from pyhue._saved.folder import Folder
    from pyhue.features import Features
    from pyhue.memory import PixelMemory

_IMAGES = 64  # added or searched at once


def add_parser(commands: Commands) -> None:
    """Declares the command, its own commands and their options."""
    parser = add_command(commands, "memory", "build, change, check and search a memory on disk")
    actions: Commands = parser.add_subparsers(dest="action", required=True, metavar="action")
    build = add_command(actions, "build", "write the activations of a features file as a memory", inner=True)
    build.add_argument("features", type=Path, metavar="FEATURES", help="file of pyhue features")
    build.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the memory")
    build.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of its vectors")
    build.add_argument("--no-normalize", action="store_true", help="compare vectors as they are")
    add = add_command(actions, "add", "add the activations of a features file to a memory", inner=True)
    add.add_argument("folder", type=Path, metavar="FOLDER", help="the memory")
    add.add_argument("features", type=Path, metavar="FEATURES", help="file of pyhue features")
    remove = add_command(
        actions, "remove", "leave vectors out of every later search; compact drops them", inner=True
    )
    remove.add_argument("folder", type=Path, metavar="FOLDER", help="the memory")
    for name, what in (
        ("rows", "rows of the memory"),
        ("images", "images, counted from 0 as they were added"),
        ("labels", "classes, by number"),
    ):
        remove.add_argument(f"--{name}", type=int, nargs="+", metavar="N", help=what)
    search = add_command(actions, "search", "classify the images of a features file by a memory", inner=True)
    search.add_argument("folder", type=Path, metavar="FOLDER", help="the memory")
    search.add_argument("features", type=Path, metavar="FEATURES", help="file of pyhue features")
    search.add_argument("-k", type=int, default=10, metavar="K", help="neighbours of each vector")
    search.add_argument(
        "--recall",
        type=float,
        metavar="SHARE",
        help="of the true neighbours that is enough; default: all of them",
    )
    for name, description in (
        ("info", "print what a memory holds"),
        ("compact", "merge small segments and drop what was removed"),
        ("check", "read everything and compare checksums; make damaged packed files anew"),
    ):
        add_command(actions, name, description, inner=True).add_argument(
            "folder", type=Path, metavar="FOLDER"
        )


def run(options: argparse.Namespace) -> int:
    """Runs one of the actions."""
    return _ACTIONS[options.action](options)


def _build(options: argparse.Namespace) -> int:
    from pyhue._on_disk import is_file_name
    from pyhue._search.host import OPTIMIZE_FROM
    from pyhue.memory import PixelMemory

    if is_file_name(options.out):
        raise ValueError(f"--out: expected a folder, got the name of a file, {options.out}")
    features = read_features(options.features)
    if options.out.exists():
        raise FileExistsError(17, "exists already; `pyhue memory add` adds to a memory", str(options.out))
    dim = features.activations.shape[1]
    partial = options.out.with_name(options.out.name + ".part")
    PixelMemory(dim, normalize=not options.no_normalize, dtype=options.dtype).save(partial)
    memory = PixelMemory.open(partial, "a")
    with _undone_on_error(memory, lambda: shutil.rmtree(partial)):
        _add_to(memory, features, options.features)
        if len(memory) >= OPTIMIZE_FROM and on_terminal():
            say("choosing how vectors are packed, and packing them")
        memory.flush()
        manifest = _folder(memory).manifest
        if manifest.plan and len(manifest.segments) > 1:
            memory.optimize()  # the plan was chosen when only the first vectors were there
    memory.close()
    partial.rename(options.out)
    return _tell(options, options.out)


def _add(options: argparse.Namespace) -> int:
    from pyhue.memory import PixelMemory

    features = read_features(options.features)
    memory = PixelMemory.open(options.folder, "a")
    before = _folder(memory).manifest
    with _undone_on_error(memory, lambda: _folder(memory).roll_back(before)):
        _add_to(memory, features, options.features)
        memory.flush()
    memory.close()
    return _tell(options, options.folder)


def _info(options: argparse.Namespace) -> int:
    return _tell(options, options.folder)


def _tell(options: argparse.Namespace, path: Path) -> int:
    memory = _opened(path)
    folder = _folder(memory)
    sizes: dict[str, list[int]] = {}
    for file in path.iterdir():
        if file.name in folder.manifest.files():
            sizes.setdefault(file.name.split("-")[0], []).append(file.stat().st_size)
    manifest, removed = folder.manifest, int(memory.removed.sum())
    lines = [str(memory)]
    lines += [
        f"{kind:8} {len(found):5} files, {sum(found) / 1e6:12,.1f} MB"
        for kind, found in sorted(sizes.items())
    ]
    lines += [f"{removed} vectors are removed"] if removed else []
    values = {
        "kind": manifest.kind,
        "dim": manifest.dim,
        "normalize": manifest.normalize,
        "dtype": manifest.dtype,
    }
    values |= {"vectors": len(memory), "removed": removed, "images": manifest.images}
    values |= {"files": {kind: {"count": len(found), "bytes": sum(found)} for kind, found in sizes.items()}}
    show(options, "\n".join(lines), values)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from pyhue._saved.memory import PIXELS

    names = ("rows", "images", "labels")
    asked = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if not asked:
        raise ValueError("--rows, --images, --labels: expected one of them at least")
    with _opened(options.folder, "a") as memory:
        if len(asked) > ("rows" in asked) and _folder(memory).manifest.kind != PIXELS.name:
            raise ValueError("--images, --labels: the memory has vectors alone; --rows says which")
        count = memory.remove(**asked)
    show(options, f"{count} vectors were removed; `pyhue memory compact` drops them", {"removed": count})
    return 0


def _compact(options: argparse.Namespace) -> int:
    memory = _opened(options.folder, "a")
    before = len(_folder(memory).manifest.segments)
    total = len(memory) - int(memory.removed.sum())
    with memory, progress_bar(desc="compact", total=total, unit="vector", unit_scale=True) as bar:
        numbers = memory.compact(bar.update)
        after = len(_folder(memory).manifest.segments)
    dropped = int((numbers < 0).sum())
    values = {"segments_before": before, "segments": after, "dropped": dropped}
    show(options, f"{before} segments became {after}, {dropped} vectors were dropped", values)
    return 0


def _check(options: argparse.Namespace) -> int:
    from pyhue._saved.check import total_bytes

    try:
        memory = _opened(options.folder, "a")
    except (OSError, ValueError):  # somebody writes, or a segment is damaged: what is damaged stays so
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all of it is told
            memory = _opened(options.folder, "r", "skip")
    total = total_bytes(_folder(memory))
    with memory, progress_bar(desc="check", total=total, unit="B", unit_scale=True) as bar:
        wrong = memory.check(bar.update)
    text = "\n".join([*wrong, f"{len(wrong)} files damaged" if wrong else "whole"])
    show(options, text, {"damaged": wrong})
    return int(any(not line.endswith("made anew") for line in wrong))


def _search(options: argparse.Namespace) -> int:
    import numpy as np

    from pyhue.memory import PixelMemory

    k = positive_integer(options.k, "k")
    asked_recall(options.recall)
    features = read_features(options.features)
    memory = PixelMemory.open(options.folder)
    _require_names(_folder(memory), features, options.features)
    begin, found = time.perf_counter(), []
    for batch in _batches(features, "search"):
        found.append(memory.predict(features.activations[batch], k, recall=options.recall))
    seconds = time.perf_counter() - begin
    predicted = np.concatenate(found)
    found_labels = list(zip(features.names, predicted.tolist(), strict=True))
    right = int((predicted == features.labels).sum())
    lines = [f"{name}\t{label}" for name, label in found_labels]
    lines.append(f"{right} of {len(predicted)} images have that label in {options.features}; {seconds:.1f} s")
    images = [{"name": name, "label": label} for name, label in found_labels]
    show(options, "\n".join(lines), {"images": images, "right": right, "seconds": seconds})
    return 0


def _add_to(memory: PixelMemory, features: Features, path: Path) -> None:
    folder = _folder(memory)
    _require_names(folder, features, path)
    channels = features.activations.shape[1]
    if channels != memory.dim:
        raise ValueError(f"{path}: expected {memory.dim} channels, as {folder.path} has, got {channels}")
    if not len(memory):
        memory._name_classes(features.classes)
    for batch in _batches(features, "add"):
        memory.add(features.activations[batch], features.labels[batch])


@contextlib.contextmanager
def _undone_on_error(memory: PixelMemory, undo: Callable[[], object]) -> Iterator[None]:
    """Where that fails, the memory is closed without writing more, and what was written is undone."""
    try:
        yield
    except BaseException:
        memory._abandon(undo)
        raise


def _require_names(folder: Folder, features: Features, path: Path) -> None:
    """ValueError unless numbers mean the same classes in memory and file, as far as names are known."""
    known = list(folder.manifest.names)
    if known and features.classes != known:
        raise ValueError(f"{path}: expected the classes of {folder.path}, {known}, got {features.classes}")


def _batches(features: Features, what: str) -> Iterator[slice]:
    count = len(features.labels)
    with progress_bar(desc=what, total=count, unit="image") as bar:
        for begin in range(0, count, _IMAGES):
            batch = slice(begin, min(count, begin + _IMAGES))
            yield batch
            bar.update(batch.stop - begin)


def _folder(memory: Any) -> Folder:
    folder: Folder = memory._inner()._folder
    return folder


def _opened(folder: Path, mode: Any = "r", on_error: Any = "raise") -> Any:
    """A memory of whatever kind is in the folder."""
    from pyhue._saved.manifest import read
    from pyhue._saved.memory import PIXELS
    from pyhue.memory import PixelMemory
    from pyhue.vector_memory import VectorMemory

    kind = PixelMemory if read(folder).kind == PIXELS.name else VectorMemory
    return kind.open(folder, mode, on_error)


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "build": _build,
    "add": _add,
    "remove": _remove,
    "info": _info,
    "compact": _compact,
    "check": _check,
    "search": _search,
}
