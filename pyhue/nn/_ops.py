"""Loads the torch custom operators that the package's shared library registers, ``torch.ops.pyhue``."""

import re
from typing import Any

from pyhue._libraries import is_built, load_operators

try:
    import torch
    from torch.torch_version import TorchVersion
except ModuleNotFoundError as error:
    what = "pyhue.nn needs torch >= 2.10: install it (pip install torch)"
    if not is_built("_torch"):
        what += (
            ", then reinstall pyhue in the same environment, from its source folder "
            "(pip install --force-reinstall --no-deps .)"
        )
    raise ImportError(what) from error
if TorchVersion(torch.__version__) < "2.10.dev0":  # its libraries lack what the operators are linked with
    raise ImportError(f"pyhue.nn needs torch >= 2.10, and {torch.__version__} is installed")


ops = load_operators("_torch")
if torch.version.cuda and is_built("_torch_cuda"):
    load_operators("_torch_cuda")


def _autograd_in_cpp() -> Any:
    """The loss with its autograd in C++, where that was built for the torch that runs, else None."""
    name = "_torch_autograd_" + re.sub("[^A-Za-z0-9]", "_", torch.__version__)
    if not is_built(name):
        return None
    try:
        return load_operators(name).differentiable_hue_cross_entropy.default
    except OSError:  # another build of that version, whose C++ differs
        return None


differentiable = _autograd_in_cpp()


def computes_on(device: torch.device) -> bool:
    """Whether the loss has a kernel for tensors of that device."""
    key = torch._C._dispatch_key_for_device(device.type)
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("pyhue::hue_cross_entropy", key))
