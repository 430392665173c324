"""What this installation is, and how many threads it uses."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import numpy as np

from pyhue import _core
from pyhue._arrays import positive_integer
from pyhue._libraries import is_built
from pyhue._threads import follow_torch

_MAX_THREADS = 1024
#: Packages whose versions matter to a bug report, where they are installed.
_PACKAGES = ("scikit-learn", "safetensors", "faiss-cpu", "timm", "torchvision", "threadpoolctl")
_VARIABLES = ("PYHUE_ISA", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def get_num_threads() -> int:
    """How many threads the NumPy side uses; the torch ops use torch's.

    The default is the number of CPUs that this process may use, bounded by `OMP_NUM_THREADS`. Until
    `set_num_threads` is called, `threadpoolctl.threadpool_limits` changes it, and in a worker process of
    torch's DataLoader it is 1.
    """
    follow_torch()
    return _core.num_threads()


def set_num_threads(n: int) -> None:
    """Use `n` threads, 1 to 1024, whatever else says how many. Results do not depend on it."""
    _core.set_num_threads(positive_integer(n, "n", _MAX_THREADS))


def config() -> dict[str, str]:
    """The lines of `show_config`."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "pyhue": importlib.metadata.version("pyhue"),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "CPU": _cpu(),
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "threads": str(get_num_threads()),
        "numpy": np.__version__,
        "torch": _version("torch") or "not installed",
        "torch ops": _built("_torch"),
        "CUDA ops": _built("_torch_cuda"),
        **_gpus(),
        **{name: version for name, version in versions.items() if version},
        **{name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _version(package: str) -> str:
    """Empty where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpus() -> dict[str, str]:
    """The GPUs that torch sees, where there are operators for them; torch is not imported for less."""
    if not is_built("_torch_cuda"):
        return {}
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"GPU": ", ".join(names) or "none", "CUDA": str(torch.version.cuda)}


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.is_file() else None
    return named[1] if named else platform.processor() or platform.machine()


def _built(library: str) -> str:
    return "built" if is_built(library) else "not built"


def as_text(found: dict[str, str]) -> str:
    """The lines of `config` as they are printed."""
    return "\n".join(f"{name:<16} {value}" for name, value in found.items())


def show_config() -> None:
    """Prints versions, the CPU, the instruction-set level in use, threads, and what was built in."""
    print(as_text(config()))
