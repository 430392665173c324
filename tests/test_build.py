"""What the compiler left in the object files; needs the build folder that an editable install keeps."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Not those for a sanitizer, whose code has functions of its own.
BUILDS = ("build/cp*/CMakeFiles/pyhue_avx*.dir", "build/arm/arm-*/CMakeFiles/pyhue_neon*.dir")
OBJECTS = sorted(path for build in BUILDS for path in ROOT.glob(f"{build}/**/*.o"))


@pytest.mark.skipif(not OBJECTS, reason="no build folder with object files of the AVX or NEON levels")
@pytest.mark.skipif(not shutil.which("nm"), reason="no nm")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: str(path.relative_to(ROOT / "build")))
def test_no_weak_symbol_is_compiled_for_a_higher_level(path):
    # The linker keeps one copy of a weak symbol for the whole program: were it one with AVX-512
    # instructions, an older CPU would crash far away from any kernel.
    table = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True).stdout
    weak = [line for line in table.splitlines() if line[16:19] in (" W ", " V ", " u ")]
    assert not weak
