"""The shared libraries of torch operators that are built with the package."""

from __future__ import annotations

import importlib.util
from typing import Any

#: What each library brings, and why it may not be there.
_LIBRARIES = {
    "_torch": "its torch operators, because torch >= 2.10 was not installed in this environment then",
    "_torch_cuda": "CUDA, because there was no nvcc or no torch with CUDA",
}


def is_built(name: str) -> bool:
    """Whether the library `pyhue.NAME` is there."""
    return importlib.util.find_spec(f"pyhue.{name}") is not None


def load_operators(name: str) -> Any:
    """Loads the library `pyhue.NAME`; returns `torch.ops.pyhue`, where its operators are.

    Raises:
        ImportError: it was not built.
    """
    import torch

    spec = importlib.util.find_spec(f"pyhue.{name}")
    if spec is None or spec.origin is None:
        raise ImportError(
            f"pyhue was built without {_LIBRARIES[name]}: reinstall it, from its source folder "
            "(pip install --force-reinstall --no-deps .)"
        )
    torch.ops.load_library(spec.origin)  # type: ignore[no-untyped-call]
    return torch.ops.pyhue
