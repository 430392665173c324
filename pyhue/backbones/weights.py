"""Weights in a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pyhue._files.reading import reading

_WRAPPERS = ("state_dict", "model")  # what checkpoints of training scripts call the weights


def read_weights(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state_dict that `torch.save` wrote, by name.

    Nothing but tensors and plain Python is loaded. A checkpoint's "state_dict" or "model" is taken.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is something else; the message names it.
    """
    with open(path, "rb"):  # an OSError that names the file
        pass
    with reading(path, "weights: a safetensors file or a state_dict"):
        if path.endswith(".safetensors"):
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        for key in _WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
        if not isinstance(content, dict) or not content:
            raise ValueError(f"got {type(content).__name__}")
        foreign = [key for key, value in content.items() if not isinstance(value, Tensor)]
        if foreign:
            raise ValueError(f"no tensor is called {_some(foreign)}")
    return content


def load_weights(network: nn.Module, path: str, others: Collection[str] = ()) -> None:
    """Loads the weights in a file into a network.

    Args:
        network: all of its weights have to be in the file.
        path: the file.
        others: what the file may have beside them: the classifier that was taken off, for example.

    Raises:
        OSError, ValueError: as `read_weights`; or the weights are of another network.
    """
    state, own = read_weights(path), network.state_dict()
    for what, names in (
        ("has no", [name for name in own if name not in state]),
        ("is of another network: it has", [name for name in state if name not in own and name not in others]),
    ):
        if names:
            raise ValueError(f"weights: {path} {what} {_some(names)}")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            shapes = f"expected {tuple(tensor.shape)}, got {tuple(state[name].shape)}"
            raise ValueError(f"weights: {path} is of another network: {name}: {shapes}")
    network.load_state_dict({name: state[name] for name in own})


def _some(names: Sequence[str]) -> str:
    return f"{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
