"""The kernel of the OpenBLAS in FAISS: by its own choice FAISS can be four times slower than it could be."""

from __future__ import annotations

import os
import subprocess
import sys

VARIABLE = "OPENBLAS_CORETYPE"  # names the kernel; read when FAISS is imported
_KERNELS = (None, "SKYLAKEX", "ZEN", "HASWELL")  # None: as OpenBLAS chooses
# Seconds of one search.
_SEARCH = """
import sys, time, faiss, numpy as np
faiss.omp_set_num_threads(int(sys.argv[1]))
vectors = np.random.default_rng(0).random((20_000, 512), np.float32)
index = faiss.IndexFlatIP(512)
index.add(vectors)
index.search(vectors[:490], 10)
begin = time.perf_counter()
index.search(vectors[:490], 10)
print(time.perf_counter() - begin)
"""


def fastest_kernel(threads: int) -> str | None:
    """The kernel with which a search of FAISS takes least time here, each tried in a process of its own.

    None where none is faster than OpenBLAS's choice, the environment names one, or FAISS is imported already.
    """
    if VARIABLE in os.environ or "faiss" in sys.modules:
        return None
    seconds = {}
    for kernel in _KERNELS:
        environment = os.environ | ({VARIABLE: kernel} if kernel else {})
        command = [sys.executable, "-c", _SEARCH, str(threads)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:  # a CPU that lacks the instructions ends it by a signal
            seconds[kernel] = float(done.stdout)
    return min(seconds, key=seconds.__getitem__, default=None)
