"""Where the commands on activations get them: from a folder of images and a backbone, or from a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pyhue._arrays import positive_integer
from pyhue._cli.common import count, require
from pyhue._runs.config import IMAGE_SIZE
from pyhue._stderr import say
from pyhue._text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyhue.features import Features
    from pyhue.images import Images

_CHECKED = 64  # images at once
_EXPONENT = 0x7C00  # of float16: all ones in NaN and infinity

#: What a command asks of labels (images,) and of the classes' names.
Check: TypeAlias = "Callable[[NDArray[np.int64], Sequence[str]], object]"


def _accept(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Any labels will do."""


def add_image_options(parser: argparse.ArgumentParser, needed: bool) -> None:
    """Options that say how images become activations; `needed` where nothing else can be given."""
    names = "resnet18, a trained RUN/seed-S/fold-F, timm:NAME, torchvision:NAME or FILE.py:FACTORY"
    parser.add_argument("--backbone", required=needed, metavar="NAME", help=f"network: {names}")
    parser.add_argument("--pretrained", action="store_true", help="timm's or torchvision's weights")
    parser.add_argument("--weights", metavar="FILE", help="weights: safetensors or a state_dict")
    parser.add_argument("--layer", metavar="NAME", help="layer of the network; by default what it pools")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of whatever is random")
    parser.add_argument(
        "--image-size",
        type=int,
        default=IMAGE_SIZE,
        metavar="PX",
        help="side of images, as of pyhue train",
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="images at once")
    parser.add_argument("--device", default="cpu", help="of torch: cpu, cuda, ...")
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="what unreadable files and folders do",
    )


def extract(options: argparse.Namespace, out: Path, check: Check = _accept) -> Features:
    """Activations of the folder `options.data`, written to `out` or read from there when it is whole.

    A wrong network or size is an error before the images are read, anything wrong before a file is written.
    """
    require("torch", "PIL")
    import torch

    from pyhue.backbones import load_backbone
    from pyhue.features import extract_features

    for name in ("image_size", "batch_size"):
        positive_integer(getattr(options, name), name)
    torch.manual_seed(options.seed)
    backbone = load_backbone(
        options.backbone, options.pretrained, options.image_size, options.layer, options.weights
    )
    images = _all_images(options.data, options.on_error)
    check(images.labels, images.classes)
    return extract_features(
        images,
        options.data,
        backbone,
        out,
        {"backbone": options.backbone} | ({"layer": options.layer} if options.layer else {}),
        options.image_size,
        options.batch_size,
        options.device,
    )


def read_features(path: Path) -> Features:
    """Maps a file of `pyhue features`, of which one pass makes sure that all activations are finite.

    Raises:
        OSError, ValueError: as `load_features`; or an activation is NaN or infinite.
    """
    import numpy as np

    from pyhue.features import load_features

    features = load_features(path)
    for start in range(0, len(features.labels), _CHECKED):
        exponents = features.activations[start : start + _CHECKED].view(np.uint16) & _EXPONENT
        wrong = (exponents == _EXPONENT).any(axis=(1, 2, 3))
        if wrong.any():
            row = start + int(wrong.argmax())
            raise ValueError(
                f"{printable(path)}: activations of row {row}, {features.names[row]}: NaN or infinite"
            )
    return features


def features_of(options: argparse.Namespace, folder: Path, check: Check = _accept) -> Features:
    """Activations for `options.data`, a file of `pyhue features` or a folder of images.

    Those of a folder are kept in `folder`, so that a second run does not need the network. `check` raises
    ValueError for labels and classes that the command cannot use, before the network runs.
    """
    if options.data.is_dir():
        if not options.backbone:
            raise ValueError(f"{printable(options.data)}: a folder of images needs --backbone")
        kept = folder / "features.safetensors"
        extract(options, kept, check)
        return read_features(kept)
    features = read_features(options.data)
    if options.backbone and options.backbone != features.source.get("backbone"):
        made_with = features.source.get("backbone", "an unknown network")
        raise ValueError(f"--backbone: {printable(options.data)} was made with {made_with}")
    if options.layer and options.layer != features.source.get("layer"):
        raise ValueError(
            f"--layer: {printable(options.data)} has {features.source.get('layer', 'what is pooled')}"
        )
    check(features.labels, features.classes)
    return features


def _all_images(root: Path, on_error: str) -> Images:
    """The images of `train`, `val` and `test` together where the data set is divided."""
    import numpy as np

    from pyhue.images import splits
    from pyhue.images.scan import Images
    from pyhue.images.splits import report

    parts = [part for part in splits(root, on_error) if part is not None]
    for line in report(parts):
        say(line)
    return Images(
        [path for part in parts for path in part.paths],
        np.concatenate([part.labels for part in parts]),
        parts[0].classes,
        [entry for part in parts for entry in part.skipped],
        [entry for part in parts for entry in part.passed_over],
    )
