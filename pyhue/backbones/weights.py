"""Weights in a file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pyhue._files.reading import reading
from pyhue._text import printable

#: Names that torchvision's files of DenseNets have, from before names of layers could hold no dot.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_TORCH = (b"PK\3\4", b"\x80")  # what torch.save writes begins with: a zip file, or before torch 1.6 a pickle
_LONGEST = 100_000_000  # bytes of a safetensors header


def load_plain(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote, on a device; nothing but tensors and plain Python is loaded.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds something else, or is damaged; torch's own messages are paragraphs, which advise
            to load it all the same.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if not head.startswith(_TORCH):
        raise ValueError(_kind(head))
    try:
        with open(path, "rb") as file:  # torch takes the names of files for what is in them
            return torch.load(file, map_location=device, weights_only=True)
    except UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {foreign[1]}" if foreign else "it was not written by torch.save, or is damaged"
        raise ValueError(f"{what}; expected tensors and plain Python alone") from error
    except Exception as error:  # what a damaged file raises depends on the damage
        if "TorchScript" in str(error):
            raise ValueError(
                "it holds a TorchScript network; expected tensors and plain Python alone"
            ) from error
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"it is truncated or damaged: {why}") from error


def read_weights(
    file: str | os.PathLike[str], what: str = "weights: a safetensors file or a state_dict"
) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state_dict that `torch.save` wrote, by name.

    Nothing but tensors and plain Python is loaded. Which of the two a file is says its content, not its name.
    Of a checkpoint the one dictionary of tensors is taken that it has, whatever it is called.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is something else, or has several dictionaries of tensors; the message names it.
    """
    path = os.fsdecode(file)
    with open(path, "rb") as opened:
        head = opened.read(64)
    with reading(path, what):
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST:
            return _plain(_load_safetensors(path))
        return _plain(_state_of(load_plain(path)))


def load_weights(network: nn.Module, file: str | os.PathLike[str], others: Collection[str] = ()) -> None:
    """Loads the weights in a file into a network, whose layers may know them by older names, too.

    Args:
        network: all of its weights have to be in the file, but what torch does without: counts of batches.
        file: the file; a prefix that all of its names begin with, and the network's do not, is taken off.
        others: what the file may have beside them: the classifier that was taken off, for example.

    Raises:
        OSError, ValueError: as `read_weights`; or the weights are of another network, or no finite numbers.
    """
    state = read_weights(file)
    for name in [name for name in state if _DOTTED.search(name)]:
        state[_DOTTED.sub(r"\1\2", name)] = state.pop(name)
    try:
        load_state(network, without_prefix(state, network.state_dict()), others)
    except ValueError as error:
        raise ValueError(f"weights: {printable(os.fsdecode(file))} {error}") from error


def load_state(network: nn.Module, state: Mapping[str, Tensor], others: Collection[str] = ()) -> None:
    """Loads weights by name into a network, of which others than `others` are an error.

    Raises:
        ValueError: they are of another network, or no finite numbers; the message goes on after a name.
    """
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:  # its first line names the network's class
        why = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"is of another network: {why[0].strip()}") from error
    for what, names in (
        ("has no", missing),
        ("is of another network: it has", [name for name in unexpected if name not in others]),
    ):
        if names:
            raise ValueError(f"{what} {_some(names)}")
    require_numbers(network, state)


def require_numbers(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raises ValueError, which goes on after a name, unless a network has finite numbers of `state`.

    Buffers may have infinities, as masks and bounds do. Integers are taken where the network has them, as
    counts are.
    """
    learned = {name for name, _ in network.named_parameters()}
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if name in state and not state[name].is_floating_point():
            raise ValueError(f"has {state[name].dtype} as {name}, expected {value.dtype}")
        if not (value.isfinite() if name in learned else ~value.isnan()).all():
            raise ValueError(f"has NaN or infinite values in {name}")


def without_prefix(state: dict[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Weights without what all of their names begin with, and a network's `own` names do not.

    Such as "module." or "_orig_mod.", which wrappers put before: the shortest whole parts without which some
    names are the network's. Where there are none, names stay.
    """
    for end in prefixes(state):
        if any(name[end:] in own for name in state):
            return {name[end:]: value for name, value in state.items()} if end else state
    return state


def prefixes(names: Collection[str]) -> list[int]:
    """How much of names could be a prefix of them: 0, and the ends of the parts that all have in common."""
    first, last = min(names), max(names)
    dots = [place for place, letter in enumerate(first, 1) if letter == "."]
    return [0, *(end for end in dots if last.startswith(first[:end]))]


def _load_safetensors(path: str) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"it is truncated or damaged: {error}") from error


def _state_of(content: Any) -> Any:
    """The dictionary of tensors in a checkpoint, or `content` where there is none."""
    found = _states(content)
    if len(found) > 1:
        raise ValueError(f"it has several sets of weights: {', '.join(found)}; save one of them alone")
    return next(iter(found.values()), content)


def _states(content: Any, within: str = "", deeper: bool = True) -> dict[str, Any]:
    """Dictionaries of tensors by name in a dictionary, and in dictionaries there."""
    found: dict[str, Any] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, dict) and any(isinstance(part, Tensor) for part in value.values()):
            found[f"{within}{key}"] = value
        elif deeper:
            found |= _states(value, f"{within}{key}/", deeper=False)
    return found


def _plain(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ValueError(f"got {type(content).__name__}")
    if not content:
        raise ValueError("it has no weights")
    foreign = [name for name, value in content.items() if not (isinstance(name, str) and _is_plain(value))]
    if foreign:
        raise ValueError(f"expected dense tensors of real numbers, not what is called {_some(foreign)}")
    return content


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested or value.is_complex())
    )


def _kind(head: bytes) -> str:
    """What a file is that has no weights, by its first bytes."""
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself, which `git lfs pull` gets"
    if head.lstrip().startswith(b"<"):
        return "it is HTML or XML, as a failed download leaves"
    return "it is neither a safetensors file nor what torch.save wrote, or its beginning is damaged"


def _some(names: Sequence[object]) -> str:
    return f"{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
