import subprocess
import sys

import pytest

_HIDE_TORCH = "import sys; sys.modules['torch'] = None\n"  # makes `import torch` raise ImportError


def _run(code):
    return subprocess.run(
        [sys.executable, "-c", _HIDE_TORCH + code], capture_output=True, text=True, check=False
    )


def test_retrieval_works():
    done = _run(
        "import numpy as np, pyhue\n"
        "x = np.random.default_rng(0).random((4, 6, 8))\n"
        "memory = pyhue.PixelMemory(dim=8)\n"
        "memory.add(x, [0, 0, 1, 1])\n"
        "print(memory.predict(x))\n"
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[0 0 1 1]"


@pytest.mark.parametrize("built", [True, False])
def test_nn_says_what_to_install(built):
    done = _run(f"import pyhue._libraries as l; l.is_built = lambda name: {built}; import pyhue.nn")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: pyhue.nn needs torch >= 2.10: install it (pip install torch)")
    assert ("reinstall pyhue" in last) != built


def test_nn_says_that_torch_is_too_old():
    pytest.importorskip("torch")
    code = "import torch; torch.__version__ = '2.9.1+cpu'; import pyhue.nn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: pyhue.nn needs torch >= 2.10, and 2.9.1+cpu is installed"
