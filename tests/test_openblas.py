"""Which of OpenBLAS's kernels FAISS is given: the fastest that runs."""

import sys

import pytest

from pyhue import _openblas

PRETENDED = """
import os, sys
seconds = {times}
kernel = os.environ.get("OPENBLAS_CORETYPE")
sys.exit(1) if kernel not in seconds else print(seconds[kernel])
"""


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)


@pytest.mark.parametrize(
    ("times", "fastest"),
    [
        ({None: 4, "SKYLAKEX": 1, "ZEN": 2, "HASWELL": 3}, "SKYLAKEX"),
        ({None: 4, "ZEN": 5, "HASWELL": 3}, "HASWELL"),  # the others do not run
        ({None: 1, "SKYLAKEX": 2}, None),
        ({}, None),  # FAISS itself does not
    ],
)
def test_the_fastest_that_runs(monkeypatch, times, fastest):
    monkeypatch.setattr(_openblas, "_SEARCH", PRETENDED.format(times=times))
    assert _openblas.fastest_kernel(1) == fastest


def test_nothing_is_changed_that_is_chosen(monkeypatch):
    monkeypatch.setattr(_openblas, "_SEARCH", PRETENDED.format(times={"ZEN": 1}))
    assert _openblas.fastest_kernel(1) == "ZEN"
    monkeypatch.setenv("OPENBLAS_CORETYPE", "HASWELL")
    assert _openblas.fastest_kernel(1) is None
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert _openblas.fastest_kernel(1) is None
