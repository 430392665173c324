"""Whom the number of threads follows: threadpoolctl, DataLoader workers, and set_num_threads before all."""

import sys

import pytest

LIMITS = """
import threadpoolctl
import pyhue
pyhue_before = pyhue.get_num_threads()
{chosen}
with threadpoolctl.threadpool_limits(1):
    print(pyhue.get_num_threads())
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    print(pyhue.get_num_threads())
print(pyhue.get_num_threads(), [lib["num_threads"] for lib in threadpoolctl.threadpool_info()
                                if lib["user_api"] == "pyhue"])
"""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("pass", ["1", "3", "3 [3]"]), ("pyhue.set_num_threads(5)", ["5", "5", "5 [5]"])],
    ids=["by default", "after set_num_threads"],
)
def test_limits_of_threadpoolctl(run_python, chosen, expected):
    pytest.importorskip("threadpoolctl")
    start = "from pyhue import _core; _core.limit_threads(3)\n"  # as a machine of 3 CPUs
    done = run_python(start + LIMITS.format(chosen=chosen), OMP_NUM_THREADS=None)
    assert done.stdout.splitlines() == expected, done.stderr


WORKERS = """
import torch
import numpy as np
import pyhue
{chosen}

class Searches(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        memory = pyhue.PixelMemory(4)
        memory.add(np.eye(4, dtype=np.float32)[:, None], np.arange(4))
        found = memory.search(np.eye(4, dtype=np.float32)[i : i + 1], 1)
        return pyhue._core.num_threads(), int(found.indices[0, 0])

if __name__ == "__main__":
    pyhue._core.limit_threads(3)
    loader = torch.utils.data.DataLoader(Searches(), num_workers=1, batch_size=None, {context})
    print([tuple(map(int, item)) for item in loader], pyhue.get_num_threads())
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("chosen", [None, 2])
def test_workers_of_a_data_loader(run_python, tmp_path, context, chosen):
    pytest.importorskip("torch")
    script = tmp_path / "loader.py"
    chose = f"pyhue.set_num_threads({chosen})" if chosen else "pass"
    script.write_text(WORKERS.format(chosen=chose, context=f"multiprocessing_context={context!r}"))
    done = run_python(
        "import runpy, sys, warnings; warnings.simplefilter('ignore'); "
        f"sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(script)!r}, run_name='__main__')"
        if context == "fork"
        else f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, {str(script)!r}]).returncode)"
    )
    inside = chosen or 1
    assert done.stdout.strip() == f"[({inside}, 0), ({inside}, 1)] {chosen or 3}", done.stderr


SMALL = """
import os
import numpy as np
import pyhue
from pyhue import _core
assert _core.least_products() == 2**25
vectors = np.random.default_rng(0).random((3000, 64), np.float32)
pyhue.set_num_threads(1)
memory = pyhue.VectorMemory(64)
memory.add(vectors)
memory.search(vectors[:1])  # packs it
pyhue.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
memory.search(vectors[:1])
print(len(os.listdir("/proc/self/task")) - before)
_core.set_least_products(0)
memory.search(vectors[:1])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of the process in /proc")
def test_a_small_search_wakes_no_other_thread(run_python):
    """It would wait longer for it than it helps. All other tests have threads nevertheless."""
    done = run_python(SMALL)
    assert done.stdout.split() == ["0", "1"], done.stderr
