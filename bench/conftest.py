"""What the benchmarks share: turns with rivals, measured peaks, real activations, tables."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pyhue._openblas import VARIABLE, fastest_kernel

THREADS = int(os.environ.get("PYHUE_BENCH_THREADS", "2"))
HERE = Path(__file__).parent
_lines: list[str] = []


def pytest_configure(config):
    if kernel := fastest_kernel(THREADS):
        os.environ[VARIABLE] = kernel  # before FAISS is imported, which reads it then
        _lines.append(f"FAISS with {VARIABLE}={kernel}, which is its fastest here")
    import torch

    import pyhue

    pyhue.set_num_threads(THREADS)
    torch.set_num_threads(THREADS)


def pytest_terminal_summary(terminalreporter):
    """The table, under what pytest-benchmark prints."""
    for line in _lines:
        terminalreporter.write_line(line)


@pytest.fixture
def report():
    """Adds a line to the table at the end."""
    return _lines.append


@pytest.fixture
def turns(benchmark):
    """Times `ours` by pytest-benchmark, the rivals taking a turn each before every round.

    Returns the median seconds of "pyhue" and of each rival. With `warm` every turn begins with calls that are
    not timed, for 50 ms: the threads of the one before spin for a while, and those of this one have gone to
    sleep.
    """

    def run(ours, rivals, rounds=7, warm=False):
        times = {name: [] for name in rivals}

        def prepare(call):
            begin = time.perf_counter()
            while warm and time.perf_counter() - begin < 0.05:
                call()

        def let_rivals_run():
            for name, call in rivals.items():
                prepare(call)
                begin = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begin)
            prepare(ours)

        benchmark.pedantic(ours, setup=let_rivals_run, rounds=rounds, warmup_rounds=1)
        medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
        medians["pyhue"] = benchmark.stats.stats.median
        benchmark.extra_info |= {f"{name} (s)": seconds for name, seconds in medians.items()}
        return medians

    return run


@pytest.fixture(scope="session")
def quickest():
    """quickest(calls) -> the name of the one that takes least, each timed once after a call that is not."""

    def seconds(call):
        call()
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return lambda calls: min(calls, key=lambda name: seconds(calls[name]))


@pytest.fixture(scope="session")
def fma_peak(tmp_path_factory):
    """Float32 multiply-adds of THREADS cores, 1e9 operations a second, measured."""
    from pyhue import _core

    program = tmp_path_factory.mktemp("peak") / "fma_peak"
    level = "x86-64-v4" if "avx512" in _core.available_isas() else "x86-64-v3"
    wide = ["-mprefer-vector-width=512"] if level == "x86-64-v4" else []
    flags = ["-O2", "-std=c++20", f"-march={level}", *wide, "-ffp-contract=fast", "-pthread"]
    subprocess.run(["g++", *flags, HERE / "fma_peak.cpp", "-o", program], check=True)
    out = subprocess.run([program, str(THREADS)], check=True, capture_output=True, text=True).stdout
    return float(out)


@pytest.fixture(scope="session")
def real_activations(tmp_path_factory):
    """real_activations(net) -> activations (images, 49, 1280) float16 and labels, from PYHUE_DATA.

    They take minutes to compute; PYHUE_BENCH_CACHE names a folder that keeps them.
    """
    data = os.environ.get("PYHUE_DATA")
    if not data:
        pytest.skip("PYHUE_DATA is not set: it names the folder of real activations")
    cache = Path(os.environ.get("PYHUE_BENCH_CACHE") or tmp_path_factory.mktemp("activations"))

    def load(net):
        path = cache / f"{net}.npy"
        if not path.exists():
            script = Path(data).resolve() / "features.py"
            command = [sys.executable, script, path, "--net", net, "--threads", str(THREADS)]
            subprocess.run(command, check=True)
        return np.load(path, mmap_mode="r"), np.load(path.with_suffix(".labels.npy"))

    return load


@pytest.fixture
def noisy_copies():
    """noisy_copies(activations, count): the vectors of (images, 49, 1280) that are not zero, then `count`
    copies of them, each value times 1 + 0.3 normal; (n, 1280) float32 a piece."""

    def parts(activations, count):
        rng = np.random.default_rng(0)
        for copy in range(count + 1):
            for start in range(0, len(activations), 500):
                part = np.asarray(activations[start : start + 500], np.float32).reshape(-1, 1280)
                part = part[part.any(axis=1)]
                if copy:
                    part *= 1 + 0.3 * rng.standard_normal(part.shape, np.float32)
                yield part

    return parts
