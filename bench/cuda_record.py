"""The record of a run on a GPU, in bench/results: python bench/cuda_record.py NAME JUNIT.xml... for tests."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

RESULTS = Path(__file__).parent / "results"


def output(*command: str) -> str:
    """What a command prints, or "unknown"."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def record(name: str, rows: list[dict[str, Any]], **about: Any) -> None:
    """Prints the rows and writes them with what they were measured on.

    The commit is that of the environment variable PYHUE_COMMIT where there is one: for copies without .git.
    """
    now = datetime.datetime.now(datetime.UTC)
    run = {
        "date": now.isoformat(timespec="seconds"),
        "commit": os.environ.get("PYHUE_COMMIT") or output("git", "describe", "--always", "--dirty"),
        "device": torch.cuda.get_device_name(),
        "driver": output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "nvcc": output("nvcc", "--version").splitlines()[-1],
        **about,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{now:%Y%m%d-%H%M%S}.json").write_text(
        json.dumps(run, indent=1) + "\n", encoding="utf-8"
    )
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            )
        )


def tests_of(report: Path) -> dict[str, Any]:
    """Counts, and the names of tests that failed, from a JUnit report; the last line of a log beside it."""
    suite = next(ElementTree.parse(report).iter("testsuite"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "skipped")}
    run = {"run": report.stem, **counts, "seconds": float(suite.get("time", 0)), "failed": failed}
    log = report.with_suffix(".log")
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return run | ({"log": lines[-1]} if lines else {})


if __name__ == "__main__":
    if torch.cuda.is_available():
        record(sys.argv[1], [tests_of(Path(path)) for path in sys.argv[2:]])
    else:
        print("no GPU: nothing recorded")
