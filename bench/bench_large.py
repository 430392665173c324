"""Memories on disk: makes a folder, measures writing, opening and searching, and deletes it.

    python bench/bench_large.py --activations int8.npy --vectors 800000

Vectors are the activations (images, pixels, channels) of a file, as the features.py of `PYHUE_DATA` writes
it, in copies with noise: times 1 + 0.3 normal. Without a file: random ones, sparse and of low rank. Every
phase is a process of its own; results are compared with those of one segment, or with brute force.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import pyhue

QUERIES = 49


def activations(options):
    """(images, 49, channels) that copies are made of."""
    if options.activations:
        return np.load(options.activations, mmap_mode="r")
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((2000, 49, 64), np.float32) @ rng.standard_normal(
        (64, options.dim), np.float32
    )
    return np.maximum(parts - 4, 0).astype(np.float16)


def queries(options):
    """Of the last image, which is not stored."""
    return np.asarray(activations(options)[-1], np.float32)[:QUERIES]


def copies(options, images, seed):
    """Some images with noise."""
    rng = np.random.default_rng(seed)
    base = activations(options)
    chosen = base[np.sort(rng.integers(0, len(base) - 1, images))].astype(np.float32)
    chosen *= 1 + 0.3 * rng.standard_normal(chosen.shape, np.float32)
    return chosen


def write(options):
    """Adds images to the folder, a segment at a time."""
    per = 49
    dim = activations(options).shape[2]
    pyhue.PixelMemory(dim, dtype=options.dtype).save(options.folder)
    seconds, done = 0.0, 0
    total = -(-options.vectors // per)  # images
    ends = [total * turn // options.segments for turn in range(1, options.segments)]
    with pyhue.PixelMemory.open(options.folder, "a") as memory:
        while done < total:
            images = min([512, total - done, *(end - done for end in ends if end > done)])
            batch = copies(options, images, done)
            begin = time.perf_counter()
            memory.add(batch, np.arange(images) % 100)
            done += images
            if done in ends:
                memory.flush()
            seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        memory.flush()
        seconds += time.perf_counter() - begin
        size = len(memory) * dim * (4 if options.dtype == "float32" else 2)
        found = {"vectors": len(memory), "gigabytes": size / 1e9, "write_MB_s": size / 1e6 / seconds}
        begin = time.perf_counter()
        if options.optimize:
            memory.optimize()
            found["optimize_s"] = time.perf_counter() - begin
        found |= {"segments": written(memory), "peak_GB": peak()}
        folder = sum(path.stat().st_size for path in Path(options.folder).iterdir())
        return found | {"folder_GB": folder / 1e9, "plan": memory.explain().get("block_ends")}


def written(memory):
    """Segments of the folder."""
    return len(memory._inner()._folder.manifest.segments)


def search(options):
    """Opens the folder and searches: the first time, again, and one query."""
    asked = queries(options)
    if options.cold:
        forget(options.folder)
    anonymous = status("RssAnon")
    begin = time.perf_counter()
    memory = pyhue.PixelMemory.open(options.folder)
    opened = time.perf_counter()
    first = memory.search(asked[:1])
    answered = time.perf_counter()
    found = {"open_ms": 1e3 * (opened - begin), "open_and_first_query_s": answered - begin}
    result = memory.search(asked)
    found["queries_49_first_s"] = time.perf_counter() - answered
    found["anonymous_MB_more"] = (status("RssAnon") - anonymous) / 1e6
    for name, some in (("queries_49_s", asked), ("query_1_s", asked[:1])):
        found[name] = median(lambda some=some: memory.search(some))
    assert (result.indices[0] == first.indices[0]).all()
    assert all((a == b).all() for a, b in zip(memory.search(asked), result, strict=True))
    check(memory, asked, result)
    return found | {"peak_GB": peak(), "mapped_MB": status("RssFile") / 1e6}


def check(memory, asked, result):
    """The first queries' neighbours are those of brute force; ties and rounding may change places."""
    unit = asked[:3] / np.maximum(np.linalg.norm(asked[:3], axis=1, keepdims=True), 1e-30)
    stored = memory._newest()
    best, rows, start = np.full((3, 10), np.inf), np.full((3, 10), -1), 0
    for part in stored.parts():
        found = 1 + np.einsum("ij,ij->i", part, part) - 2 * (unit @ part.T)  # bfloat16: not quite unit length
        found[:, ~part.any(axis=1)] = np.inf  # no direction
        together = np.hstack((best, found))
        numbers = np.hstack((rows, np.broadcast_to(np.arange(start, start + len(part)), found.shape)))
        order = np.argsort(together, axis=1)[:, :10]
        best, rows = np.take_along_axis(together, order, 1), np.take_along_axis(numbers, order, 1)
        start += len(part)
    kept = np.square(stored.rows(rows.ravel()).reshape(3, 10, -1) - unit[:, None].astype(np.float64)).sum(2)
    np.testing.assert_allclose(result.distances[:3], np.sort(kept, axis=1), rtol=1e-4, atol=1e-5)


def add(options):
    """Adds 1,000 images to the open folder and searches them."""
    batch, asked = copies(options, 1000, 1), queries(options)
    with pyhue.PixelMemory.open(options.folder, "a") as memory:
        memory.search(asked)
        begin = time.perf_counter()
        memory.add(batch, np.zeros(1000, int))
        added = time.perf_counter()
        memory.search(batch[-1][:1])
        searched = time.perf_counter()
        new = memory.search(batch[-1])
        own = len(memory) - 49 + np.arange(49)  # rows of the last image
        there = batch[-1].any(axis=1)
        assert (new.indices == own[:, None]).any(axis=1)[there].all()
        found = time.perf_counter()
        memory.flush()
        return {
            "add_s": added - begin,
            "add_and_search_s": searched - begin,
            "flush_s": time.perf_counter() - found,
        }


def compact(options):
    """20 segments against one, in turns."""
    one = Path(f"{options.folder}-one")
    shutil.copytree(options.folder, one)
    with pyhue.PixelMemory.open(one, "a") as memory:
        from pyhue._saved import folder

        folder.SEGMENT_BYTES = 1 << 40
        begin = time.perf_counter()
        memory.compact()
        seconds = time.perf_counter() - begin
        assert written(memory) == 1
    asked = queries(options)
    many, single = pyhue.PixelMemory.open(options.folder), pyhue.PixelMemory.open(one)
    found = {"compact_s": seconds, "segments": written(many)}
    for name, some in (("49", asked), ("1", asked[:1])):
        times = {"many": [], "single": []}
        for _ in range(9):
            for key, memory in (("many", many), ("single", single)):
                begin = time.perf_counter()
                result = memory.search(some)
                times[key].append(time.perf_counter() - begin)
                if key == "many":
                    expected = result
            assert all((a == b).all() for a, b in zip(result, expected, strict=True))
        medians = {key: float(np.median(values[2:])) for key, values in times.items()}
        found[f"ratio_{name}"] = medians["many"] / medians["single"]
        found |= {f"{key}_{name}_s": value for key, value in medians.items()}
    shutil.rmtree(one)
    return found


def median(call, rounds=7):
    """Seconds, after one call that does not count."""
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))


def forget(folder):
    """Takes the folder's pages out of the page cache."""
    for path in Path(folder).iterdir():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def status(name):
    """A line of /proc/self/status, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


def peak():
    """Largest resident memory so far, mapped pages included, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


PHASES = {"write": write, "search": search, "cold": search, "add": add, "compact": compact}


def main():
    """Every phase in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default="large-memory")
    parser.add_argument("--activations", help="npy file (images, 49, channels)")
    parser.add_argument("--vectors", type=int, default=800_000)
    parser.add_argument("--dim", type=int, default=1280, help="without a file of activations")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--segments", type=int, default=0, help="so many; default: of 1 GiB")
    parser.add_argument("--optimize", action="store_true", help="anew, when all is written")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=["write", "search", "cold", "add"])
    parser.add_argument("--keep", action="store_true", help="the folder")
    parser.add_argument("--only", choices=PHASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.cold = options.only == "cold"
    if options.only:
        print(json.dumps(PHASES[options.only](options)))
        return
    try:
        for phase in options.phases:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", phase]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            print(
                phase,
                " ".join(
                    f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                    for k, v in json.loads(output).items()
                ),
                flush=True,
            )
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
