"""Prints what each CUDA kernel takes, from what ptxas -v said: python cuda_resources.py BUILD_LOG.

Columns: target, registers of a thread, bytes of a thread that spill (stores, loads), bytes of a block's
static shared memory, kernel.
"""

import re
import subprocess
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8")
text = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout
rows, kernel, target, spills = set(), "", "", (0, 0)
for line in text.splitlines():
    if found := re.search(r"Compiling entry function '(.+)' for '(\w+)'", line):
        name = re.sub(r"\(anonymous namespace\)::|pyhue::cuda::|pyhue::|^void ", "", found[1])
        kernel, target = name.split("(")[0], found[2]
    elif found := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
        spills = int(found[1]), int(found[2])
    elif found := re.search(r"Used (\d+) registers", line):
        shared = re.search(r"(\d+) bytes smem", line)
        rows.add((kernel, target, int(found[1]), *spills, int(shared[1]) if shared else 0))
for kernel, target, registers, stores, loads, shared in sorted(rows):
    print(f"{target:<7} {registers:>4} {stores:>4} {loads:>4} {shared:>6}  {kernel}")
