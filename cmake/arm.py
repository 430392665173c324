"""Compares what ARM answers with what x86-64 answers, and counts instructions.

    python arm.py FOLDER QEMU QEMU_X86

FOLDER holds builds of pyhue_bits and pyhue_tile: `x86`, `x86-fma` (its generic level with fused products,
in registers of 16 bytes as NEON's are) and `arm*`, which QEMU runs. `make test-arm` makes them.

Instructions are those that QEMU steps through, of one tile of queries against one block: the difference
between running it once and three times, halved. QEMU_X86 counts AVX2's, for the same products.
"""

import os
import subprocess
import sys
from pathlib import Path

folder, qemu, qemu_x86 = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
LEVELS = {"generic": "x86", "neon": "x86-fma", "neondotprod": "x86-fma", "neonbf16": "x86-fma"}
MOST = 1.5  # times AVX2's instructions
# Without dot products, bytes are multiplied to 16 bits and added up: twice the instructions at the least.
EXCEPT = {("neon", "bytes")}


def run(command: list[str], level: str) -> str:
    """What the command prints at a level."""
    environment = {**os.environ, "PYHUE_ISA": level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} at {level}: {done.stderr or done.returncode}")
    return done.stdout


def instructions(qemu: str, build: Path, level: str, kind: str, dims: int) -> float:
    """Of one tile, for each product."""
    counts = []
    for times in (1, 3):
        log = build / "instructions.log"
        step = [qemu, "-cpu", "max", "-singlestep", "-d", "exec,nochain", "-D", str(log)]
        printed = run([*step, str(build / "pyhue_tile"), kind, str(dims), str(times)], level)
        counts.append(sum(line.startswith("Trace") for line in log.open(encoding="utf-8")))
        log.unlink()
    return (counts[1] - counts[0]) / 2 / int(printed)


failed = False
expected = {
    name: run([str(folder / name / "pyhue_bits")], "generic").splitlines() for name in set(LEVELS.values())
}
for build in sorted(folder.glob("arm*")):
    for level, reference in LEVELS.items():
        answers = run([qemu, "-cpu", "max", str(build / "pyhue_bits")], level).splitlines()
        differing = [pair for pair in zip(expected[reference], answers, strict=True) if pair[0] != pair[1]]
        print(f"{build.name} {level}: {len(answers)} answers, {len(differing)} differ from {reference}'s")
        for pair in differing[:5]:
            print("\n".join(pair))
        failed = failed or bool(differing)

print("\nInstructions of a product:")
print(f"{'build':<10} {'level':<12} {'filter':<7} {'dims':>4} {'AVX2':>6} {'ARM':>6} ratio")
for kind in ("floats", "bytes"):
    for dims in (64, 256):
        avx2 = instructions(qemu_x86, folder / "x86", "avx2", kind, dims)
        for build in sorted(folder.glob("arm*")):
            for level in LEVELS:
                if level == "generic":
                    continue
                arm = instructions(qemu, build, level, kind, dims)
                failed = failed or (arm > MOST * avx2 and (level, kind) not in EXCEPT)
                ratio = f"{avx2:6.3f} {arm:6.3f} {arm / avx2:5.2f}"
                print(f"{build.name:<10} {level:<12} {kind:<7} {dims:>4} {ratio}")
sys.exit(failed)
