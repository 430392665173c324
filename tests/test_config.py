"""Threads, instruction-set levels, and what the installation says about itself."""

import os

import numpy as np
import pytest

import pyhue
from pyhue import _core

THREADS = "import pyhue; print(pyhue.get_num_threads())"
ISA = "from pyhue import _core; print(_core.isa())"
LEVELS = ["generic", "avx2", "avxvnni", "avx512", "avx512vnni", "neon", "neondotprod", "neoni8mm"]


def _usable_cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize("bound", [None, "", "1", "2", "100000", "0", "-3", "many", "1,2"])
def test_default_threads(run_python, bound):
    done = run_python(THREADS, OMP_NUM_THREADS=bound)
    digits = (bound or "").split(",")[0]
    limit = int(digits) if digits.isdigit() and int(digits) > 0 else 10**6
    assert int(done.stdout) == min(_usable_cpus(), limit), done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_default_threads_are_the_cpus_this_process_may_use(run_python):
    cpu = min(os.sched_getaffinity(0))
    done = run_python(f"import os; os.sched_setaffinity(0, [{cpu}]); {THREADS}", OMP_NUM_THREADS=None)
    assert done.stdout.strip() == "1", done.stderr


def test_set_num_threads():
    before = pyhue.get_num_threads()
    try:
        for count in (1, 2, 7, np.int32(3), 1024):
            pyhue.set_num_threads(count)
            assert pyhue.get_num_threads() == count
    finally:
        pyhue.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "n: expected at least 1, got 0"),
        (-2, ValueError, "n: expected at least 1, got -2"),
        (1025, ValueError, "n: expected at most 1024, got 1025"),
        (2**70, ValueError, "n: expected at most 1024"),
        (1.0, TypeError, "n: expected an integer, got float"),
        (True, TypeError, "n: expected an integer, got bool"),
        (None, TypeError, "n: expected an integer, got NoneType"),
    ],
)
def test_bad_thread_counts(count, error, message):
    before = pyhue.get_num_threads()
    with pytest.raises(error, match=message):
        pyhue.set_num_threads(count)
    assert pyhue.get_num_threads() == before


def test_levels():
    available = _core.available_isas()
    assert available == [level for level in LEVELS if level in available]
    assert "generic" in available


@pytest.mark.parametrize("level", [None, "", *_core.available_isas()])
def test_environment_forces_a_level(run_python, level):
    done = run_python(ISA, PYHUE_ISA=level)
    assert done.stdout.strip() == (level or _core.available_isas()[-1]), done.stderr


@pytest.mark.parametrize("level", ["sse", "AVX2", "avx2 ", "avx-512", "best"])
def test_unknown_level_in_the_environment(run_python, level):
    done = run_python("import pyhue", PYHUE_ISA=level)
    assert done.returncode != 0
    assert f"PYHUE_ISA={level} is not one of {', '.join(LEVELS)}" in done.stderr


@pytest.mark.parametrize("level", [level for level in LEVELS if level not in _core.available_isas()])
def test_unavailable_level_in_the_environment(run_python, level):
    done = run_python("import pyhue", PYHUE_ISA=level)
    assert done.returncode != 0
    assert f"PYHUE_ISA={level} is not available on this CPU" in done.stderr


def test_unknown_level():
    before = _core.isa()
    with pytest.raises(ValueError, match=f"PYHUE_ISA=sse is not one of {', '.join(LEVELS)}"):
        _core.set_isa("sse")
    assert _core.isa() == before


def test_isa_fixture(isa):
    assert _core.isa() == isa


def test_threads_fixture(threads):
    assert pyhue.get_num_threads() == threads


def test_show_config(capsys, isa, threads):
    assert pyhue.show_config() is None
    lines = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " ops " not in line
    )
    assert lines["pyhue"] == pyhue.__version__
    assert lines["numpy"] == np.__version__
    assert lines["threads"] == str(threads)
    assert lines["instruction"] == f"set  {isa} (available: {', '.join(_core.available_isas())})"
    assert {"python", "torch"} <= set(lines)


def test_show_config_says_what_was_built_in(capsys):
    pyhue.show_config()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("torch ops"))
    assert line.split()[2:] in (["built"], ["not", "built"])


def test_import_does_not_import_torch(run_python):
    script = (
        "import sys, pyhue; print([name for name in ('torch', 'tqdm', 'sklearn') if name in sys.modules])"
    )
    assert run_python(script).stdout.strip() == "[]"


def test_public_names():
    assert sorted(pyhue.__all__) == pyhue.__all__ or len(set(pyhue.__all__)) == len(pyhue.__all__)
    for name in pyhue.__all__:
        assert getattr(pyhue, name).__doc__
