"""Prints what each CUDA kernel takes, from what ptxas -v said: python cuda_resources.py BUILD_LOG TABLE.

Columns: target, registers of a thread, bytes of a thread that spill (stores, loads), bytes of a block's
static shared memory, kernel. TABLE, for csrc/launches, gets target, mangled name, registers, shared
memory.
"""

import re
import subprocess
import sys
from pathlib import Path

rows, mangled, target, spills = {}, "", "", (0, 0)
for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    if found := re.search(r"Compiling entry function '(.+)' for '(\w+)'", line):
        mangled, target = found[1], found[2]
    elif found := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
        spills = int(found[1]), int(found[2])
    elif found := re.search(r"Used (\d+) registers", line):
        shared = re.search(r"(\d+) bytes smem", line)
        rows[mangled, target] = (int(found[1]), *spills, int(shared[1]) if shared else 0)

names = [mangled for mangled, _ in rows]
demangled = subprocess.run(
    ["c++filt", *names], capture_output=True, text=True, check=True
).stdout.splitlines()
kernels = [
    re.sub(r"\(anonymous namespace\)::|pyhue::cuda::|pyhue::|^void ", "", n).split("(")[0] for n in demangled
]
lines = zip(kernels, rows.items(), strict=True)
for kernel, ((_, target), (registers, stores, loads, shared)) in sorted(lines):
    print(f"{target:<7} {registers:>4} {stores:>4} {loads:>4} {shared:>6}  {kernel}")
with open(sys.argv[2], "w", encoding="utf-8") as table:
    for (mangled, target), (registers, *_, shared) in rows.items():
        print(target, mangled, registers, shared, file=table)
