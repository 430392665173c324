"""Compares what ARM answers with what x86-64 answers, and counts instructions.

    python arm.py FOLDER QEMU QEMU_X86

FOLDER holds builds of pyhue_bits and pyhue_tile: the generic level of x86-64, `x86`, in registers of 16 bytes
as NEON's are; with fused products, `x86-fma`; and compiled as AVX2's, `x86-avx2`. QEMU runs those of `arm*`.
`make test-arm` makes all of them.

Instructions are those that QEMU steps through, of one tile of queries against one block: the difference
between running it once and three times, halved. QEMU_X86 counts AVX2's, for the same products.
"""

import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

folder, qemu, qemu_x86 = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
LEVELS = {"generic": "x86", "neon": "x86-fma", "neondotprod": "x86-fma", "neoni8mm": "x86-fma"}
MOST = 1.5  # times AVX2's instructions
# Without dot products, bytes are multiplied to 16 bits: docs/arm.md has the arithmetic.
EXCEPT = {"neon"}


def run(command: list[str], level: str) -> str:
    """What the command prints at a level."""
    environment = {**os.environ, "PYHUE_ISA": level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} at {level}: {done.stderr or done.returncode}")
    return done.stdout


def instructions(qemu: str, build: Path, level: str, dims: int) -> float:
    """Of one tile, for each product."""
    counts = []
    for times in (1, 3):
        log = Path(tempfile.gettempdir()) / f"pyhue-{os.getpid()}-{threading.get_ident()}.log"
        step = [qemu, "-cpu", "max", "-singlestep", "-d", "exec,nochain", "-D", str(log)]
        printed = run([*step, str(build / "pyhue_tile"), str(dims), str(times)], level)
        with log.open(encoding="utf-8") as lines:
            counts.append(sum(line.startswith("Trace") for line in lines))
        log.unlink()
    return (counts[1] - counts[0]) / 2 / int(printed)


def compare(build: Path, level: str) -> bool:
    """Whether all answers of a level are those of its reference."""
    expected = run([str(folder / LEVELS[level] / "pyhue_bits")], "generic").splitlines()
    answers = run([qemu, "-cpu", "max", str(build / "pyhue_bits")], level).splitlines()
    pairs = [pair for pair in zip(expected, answers, strict=True) if pair[0] != pair[1]]
    told = [f"{build.name} {level}: {len(answers)} answers, {len(pairs)} differ from {LEVELS[level]}'s"]
    print("\n".join([*told, *(line for pair in pairs[:5] for line in pair)]), flush=True)
    return not pairs


def count(build: Path, level: str, dims: int) -> bool:
    """Whether the filter of a level takes few enough instructions."""
    avx2 = instructions(qemu_x86, folder / "x86-avx2", "generic", dims)
    arm = instructions(qemu, build, level, dims)
    ratio = f"{arm / avx2:.2f} times AVX2's {avx2:.3f}"
    print(f"{build.name} {level}, {dims} dimensions: {arm:.3f} instructions a product, {ratio}", flush=True)
    return arm <= MOST * avx2 or level in EXCEPT


builds = sorted(folder.glob("arm*"))
NEON = list(LEVELS)[1:]
with ThreadPoolExecutor(os.cpu_count()) as pool:
    jobs = [pool.submit(compare, build, level) for build in builds for level in LEVELS]
    wait(jobs)
    jobs += [
        pool.submit(count, build, level, dims) for dims in (64, 256) for build in builds for level in NEON
    ]
    passed = [job.result() for job in jobs]
print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
sys.exit(not all(passed))
