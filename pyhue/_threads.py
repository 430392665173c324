"""Whom the number of threads follows, until `set_num_threads` is called."""

from __future__ import annotations

import contextlib
import sys

from pyhue import _core


def follow_torch() -> None:
    """Takes over that a worker of torch's DataLoader is to use one thread; asked whenever work begins."""
    data = sys.modules.get("torch.utils.data")
    if data is not None and data.get_worker_info() is not None:
        _core.limit_threads(1)


def _register() -> None:
    """Makes `threadpoolctl`, where it is installed, know this library."""
    with contextlib.suppress(ImportError):
        import threadpoolctl

        class Controller(threadpoolctl.LibController):  # type: ignore[misc]
            user_api = internal_api = "pyhue"
            filename_prefixes = ("_core",)
            check_symbols = ("pyhue_num_threads",)

            def get_num_threads(self) -> int:
                return _core.num_threads()

            def set_num_threads(self, num_threads: int) -> None:
                _core.limit_threads(num_threads)

            def get_version(self) -> None:
                return None

        threadpoolctl.register(Controller)


_register()
