"""Networks that functions of other modules make."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from pyhue._text import printable


def from_factory(source: str, factory: str) -> nn.Module:
    """What the function `factory` of a module, or of a file "NAME.py", returns for no arguments."""
    module = _from_file(Path(source)) if source.endswith(".py") else import_module(source)
    make = getattr(module, factory, None)
    if not callable(make):
        raise ValueError(f"backbone: {printable(source)} has no function {factory!r}")
    network = make()
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"backbone: {printable(source)}:{factory} gave {type(network).__name__}, expected nn.Module"
        )
    return network


def import_module(name: str, package: str | None = None) -> ModuleType:
    """The module, looked for in the working directory too; ImportError says what to install."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken torchvision raises RuntimeError
        hint = f"; install with: pip install {package}" if package else ""
        raise ImportError(f"backbone: {name} cannot be imported: {error}{hint}") from error
    finally:
        sys.path.remove(here)


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"backbone: there is no file {printable(path)}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
