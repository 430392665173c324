"""Weights in a file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pyhue._files.reading import reading

_WRAPPERS = ("state_dict", "model")  # what checkpoints of training scripts call the weights
#: Names that torchvision's files of DenseNets have, from before names of layers could hold no dot.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load_plain(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote, on a device; nothing but tensors and plain Python is loaded.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds something else; torch's own message advises to load it all the same.
        Exception: what torch raises for a file that is damaged.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {foreign[1]}" if foreign else "it was not written by torch.save, or is damaged"
        raise ValueError(f"{what}; expected tensors and plain Python alone") from error


def read_weights(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state_dict that `torch.save` wrote, by name.

    Nothing but tensors and plain Python is loaded. A checkpoint's "state_dict" or "model" is taken.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is something else; the message names it.
    """
    path = os.fsdecode(file)
    with open(path, "rb"):  # an OSError that names the file
        pass
    with reading(path, "weights: a safetensors file or a state_dict"):
        content: Any = load_file(path) if path.endswith(".safetensors") else load_plain(path)
        for key in _WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
        if not isinstance(content, dict) or not content:
            raise ValueError(f"got {type(content).__name__}")
        foreign = [
            name for name, value in content.items() if not (isinstance(name, str) and _is_plain(value))
        ]
        if foreign:
            raise ValueError(f"expected dense tensors of real numbers, not what is called {_some(foreign)}")
    return content


def load_weights(network: nn.Module, file: str | os.PathLike[str], others: Collection[str] = ()) -> None:
    """Loads the weights in a file into a network, whose layers may know them by older names, too.

    Args:
        network: all of its weights have to be in the file, but what torch does without: counts of batches.
        file: the file.
        others: what the file may have beside them: the classifier that was taken off, for example.

    Raises:
        OSError, ValueError: as `read_weights`; or the weights are of another network.
    """
    path, state = os.fsdecode(file), read_weights(file)
    for name in [name for name in state if _DOTTED.search(name)]:
        state[_DOTTED.sub(r"\1\2", name)] = state.pop(name)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:  # its first line names the network's class
        why = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"weights: {path} is of another network: {why[0].strip()}") from error
    for what, names in (
        ("has no", missing),
        ("is of another network: it has", [name for name in unexpected if name not in others]),
    ):
        if names:
            raise ValueError(f"weights: {path} {what} {_some(names)}")


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested or value.is_complex())
    )


def _some(names: Sequence[object]) -> str:
    return f"{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
