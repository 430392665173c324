"""Fixtures of every test: instruction-set levels, thread counts, and how long Hypothesis looks."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

import pyhue
from pyhue import _core

# No deadline: a test never fails because the machine is busy.
settings.register_profile("pyhue", deadline=None, max_examples=150, database=None, print_blob=True)
settings.register_profile("sanitized", settings.get_profile("pyhue"), max_examples=50)
settings.load_profile("pyhue")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under sanitizers, of an emulated test of four cases or more every third: they take half of all time."""
    if settings.get_current_profile_name() != "sanitized":
        return
    cases = Counter(item.nodeid.split("[")[0] for item in items)
    seen: Counter[str] = Counter()
    left_out = []
    for item in items:
        test = item.nodeid.split("[")[0]
        seen[test] += 1
        if "test_cuda_" in test and cases[test] >= 4 and seen[test] % 3:
            left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test at each instruction-set level that this CPU has."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture(params=[1, 2], ids=["1thread", "2threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs the test with one thread and with two."""
    before = pyhue.get_num_threads()
    pyhue.set_num_threads(request.param)
    yield request.param
    pyhue.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _small_searches_have_threads() -> None:
    """They would stay with the calling thread, and no test of two threads would test them."""
    _core.set_least_products(0)


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_python(script, **environment) runs a script in a new interpreter; None removes a variable."""

    def run(script: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
        command = [sys.executable, "-W", "error", "-c", script]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture(autouse=True)
def _settings_unchanged() -> Iterator[None]:
    """A test that changes the level or the threads must put them back."""
    before = _core.isa(), pyhue.get_num_threads()
    yield
    assert (_core.isa(), pyhue.get_num_threads()) == before


@pytest.fixture(scope="session")
def gloo(tmp_path_factory):
    """Skips the test where two processes cannot take a step together with torch alone."""
    from test_nn_processes import plain_step, two_processes

    torch_alone = two_processes(plain_step, tmp_path_factory.mktemp("gloo"))
    if torch_alone.returncode:
        pytest.skip(f"no gloo step of torch alone here: {torch_alone.stderr[-2000:]}")


class Gpu(NamedTuple):
    """A torch.device where kernels for CUDA run, and their operators."""

    device: Any
    ops: Any


@pytest.fixture(params=["emulated", "cuda"])
def gpu(request: pytest.FixtureRequest) -> Gpu:
    """Runs the test with the emulated kernels, which take CPU tensors, and on a GPU."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("pyhue.nn")
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return Gpu(torch.device("cuda"), torch.ops.pyhue)
    spec = importlib.util.find_spec("pyhue._torch_emulation")
    if spec is None:
        pytest.skip("pyhue was built without PYHUE_EMULATION")
    torch.ops.load_library(spec.origin)
    return Gpu(torch.device("cpu"), torch.ops.pyhue_emulation)
