"""Loads the torch custom operators that the package's shared library registers, ``torch.ops.pyhue``."""

from collections.abc import Callable
from importlib.util import find_spec

try:
    import torch
except ModuleNotFoundError as error:
    raise ImportError(
        "pyhue.nn needs torch >= 2.10: install it (pip install torch), then reinstall pyhue in the same "
        "environment, from its source folder (pip install --force-reinstall --no-deps .)"
    ) from error


def _load() -> None:
    spec = find_spec("pyhue._torch")
    if spec is None or spec.origin is None:
        raise ImportError(
            "pyhue was built without its torch operators, because torch >= 2.10 was not installed in this "
            "environment then: reinstall it, from its source folder "
            "(pip install --force-reinstall --no-deps .)"
        )
    load_library: Callable[[str], None] = torch.ops.load_library
    load_library(spec.origin)
    gpu = find_spec("pyhue._torch_cuda") if torch.version.cuda else None
    if gpu is not None and gpu.origin is not None:
        load_library(gpu.origin)


_load()
ops = torch.ops.pyhue


def computes_on(device: torch.device) -> bool:
    """Whether the loss has a kernel for tensors of that device."""
    key = torch._C._dispatch_key_for_device(device.type)
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("pyhue::hue_cross_entropy", key))
