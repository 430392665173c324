"""What this installation is, and how many threads it uses."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np

from pyhue import _core
from pyhue._arrays import positive_integer
from pyhue._libraries import is_built
from pyhue._threads import follow_torch

_MAX_THREADS = 1024


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
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "not installed"
    return {
        "pyhue": importlib.metadata.version("pyhue"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch,
        "torch ops": _built("_torch"),
        "CUDA ops": _built("_torch_cuda"),
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "threads": str(get_num_threads()),
    }


def _built(library: str) -> str:
    return "built" if is_built(library) else "not built"


def show_config() -> None:
    """Prints versions, the instruction-set level in use, threads, and what was built in."""
    for name, value in config().items():
        print(f"{name:<16} {value}")
