import subprocess
import sys

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


def test_nn_says_what_to_install():
    done = _run("import pyhue.nn")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "pip install" in last
    assert "torch" in last
