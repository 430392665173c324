"""Activations of a folder of images, in one file that other commands map instead of running the network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhue._arrays import positive_integer
from pyhue._files.reading import reading, require_fit
from pyhue._files.resumable import ResumableFile
from pyhue._files.tensors import header_bytes, open_tensors
from pyhue._runs.config import IMAGE_SIZE
from pyhue._stderr import progress_bar
from pyhue._text import printable

if TYPE_CHECKING:
    from pyhue.backbones import Backbone
    from pyhue.images import Images

__all__ = ["Features", "extract_features", "load_features"]

_FORMAT = "pyhue.features"
_VERSION = "1"
_DTYPES = {"labels": "I64", "activations": "F16"}  # in safetensors' words
_LISTS = {"classes": list[str], "names": list[str], "source": dict}
_LARGEST = float(np.finfo(np.float16).max)


class Features(NamedTuple):
    """What a file of features holds."""

    activations: NDArray[np.float16]  #: (images, channels, H, W), mapped from the file, read-only
    labels: NDArray[np.int64]  #: (images,), indices into `classes`
    classes: list[str]  #: names
    names: list[str]  #: path of each image, relative to the folder; bytes that are not UTF-8 as `\\udc..`
    source: dict[str, Any]  #: what they were made from: backbone, weights, image_size, ...


def load_features(path: str | os.PathLike[str]) -> Features:
    """Maps a file that `extract_features` or `pyhue features` wrote.

    The file is a safetensors file: activations float16 (images, channels, H, W), labels int64 (images,), and
    the rest as JSON in its metadata.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is truncated, foreign, of another version, or its parts disagree; named.
    """
    file = open_tensors(path, "file of `pyhue features`")
    metadata = file.metadata
    with reading(path, f"a whole file of `pyhue features`, version {_VERSION}"):
        if (metadata.get("format"), metadata.get("version")) != (_FORMAT, _VERSION):
            raise ValueError(f"it is {metadata.get('format')}, version {metadata.get('version')}")
        lists = {key: json.loads(metadata[key]) for key in _LISTS}
        require_fit(lists, _LISTS)
        shapes = {name: shape for name, (dtype, shape) in file.layout.items() if dtype == _DTYPES.get(name)}
        if set(shapes) != set(_DTYPES) or len(shapes["activations"]) != 4 or 0 in shapes["activations"]:
            raise ValueError("expected activations of F16 and four dimensions, and labels of I64")
        if not shapes["labels"] == shapes["activations"][:1] == (len(lists["names"]),):
            raise ValueError("expected activations, labels and names of the same images")
        activations, labels = file.array("activations"), file.array("labels").copy()
        if not 0 <= labels.min() <= labels.max() < len(lists["classes"]):
            raise ValueError(f"expected labels from 0 to {len(lists['classes']) - 1}")
    return Features(activations, labels, **lists)


def extract_features(
    images: Images,
    root: str | os.PathLike[str],
    backbone: Backbone,
    out: str | os.PathLike[str],
    source: dict[str, Any],
    image_size: int = IMAGE_SIZE,
    batch_size: int = 16,
    device: str = "cpu",
) -> Features:
    """Writes the activations of images to a file, a batch at a time, and goes on where a killed run stopped.

    Until it is whole, the file is called `out` + ".part", with all of its space taken at the start; what is
    done is noted beside it after each batch is on disk. A file `out` made from the same is returned as it is.

    Args:
        images: from `pyhue.images`.
        root: the folder that their names are relative to.
        backbone: from `load_backbone`; evaluated in float32, without gradients.
        out: the file.
        source: what to record about the backbone, JSON: its name, for example. The digest of its weights,
            `image_size`, `batch_size` and a digest of the list of images are added.
        image_size: side of the square that images are scaled and cropped to, in pixels. Default 224, as of
            `pyhue train`.
        batch_size: images at once. Default 16.
        device: of torch. Default "cpu".

    Raises:
        OSError: the disk is full, or a file cannot be read or written.
        ValueError: `out`, or what a killed run left, was made from something else; an image cannot be read;
            an activation is NaN or above what float16 holds.
    """
    import torch

    from pyhue.images import load_image

    image_size = positive_integer(image_size, "image_size")
    batch_size = positive_integer(batch_size, "batch_size")
    names = [printable(os.path.relpath(path, root)) for path in images.paths]
    try:
        backbone = backbone.eval().to(device)
    except (RuntimeError, AssertionError) as error:  # an unknown device, or one that torch was built without
        raise ValueError(f"device: {device!r} cannot be used: {error}") from error
    source = source | {
        "weights": _weights_digest(backbone),
        "image_size": image_size,
        "batch_size": batch_size,
        "images": _images_digest(images, names),
    }
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, image_size, image_size, device=device)).shape[1:]
        header = _header(images, names, (len(names), *maps), source)
        file = ResumableFile(out, source, header + images.labels.tobytes(), 2 * len(names) * maps.numel())
        first = file.done // (2 * maps.numel())
        with progress_bar(desc="features", total=len(names), initial=first, unit="image") as bar:
            for start in range(first, len(names), batch_size):
                batch = slice(start, start + batch_size)
                prepared = np.stack([load_image(path, image_size) for path in images.paths[batch]])
                found = backbone(torch.from_numpy(prepared).to(device)).cpu().numpy()
                _require_finite(found, names[batch])
                file.append(found.astype(np.float16).tobytes())
                bar.update(len(found))
    file.finish()
    return load_features(out)


def _header(images: Images, names: list[str], shape: tuple[int, ...], source: dict[str, Any]) -> bytes:
    lists = {"classes": images.classes, "names": names, "source": source}
    metadata = {"format": _FORMAT, "version": _VERSION} | {k: json.dumps(v) for k, v in lists.items()}
    return header_bytes(
        metadata, {"labels": (_DTYPES["labels"], shape[:1]), "activations": (_DTYPES["activations"], shape)}
    )


def _weights_digest(backbone: Backbone) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # bfloat16, too
    return digest.hexdigest()


def _images_digest(images: Images, names: Sequence[str]) -> str:
    """Of names, classes and sizes of files: enough to see that another set of images is meant."""
    digest = hashlib.sha256(json.dumps(images.classes).encode())
    for name, label, path in zip(names, images.labels, images.paths, strict=True):
        digest.update(f"{name} {label} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _require_finite(maps: NDArray[Any], names: Sequence[str]) -> None:
    good = (np.abs(maps) <= _LARGEST).all(axis=(1, 2, 3))
    if not good.all():
        raise ValueError(f"{names[good.argmin()]}: an activation is NaN or above what float16 holds")
