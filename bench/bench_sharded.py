"""A memory shared out between two processes against one process, each of one thread; answers asserted equal.

    python bench/bench_sharded.py --activations int8.npy --vectors 98000

Vectors are copies with noise, as in bench_large.py; the folder has a segment for each of 4 quarters, and is
deleted at the end. Every round asks all in turn; medians of 7.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_large
import numpy as np

import pyhue

ROUNDS = 7


def write(options):
    """A folder of 4 segments, optimised."""
    images = options.vectors // 49
    asked = bench_large.copies(options, 10, -1 % 2**32).reshape(-1, bench_large.activations(options).shape[2])
    np.save(f"{options.folder}.queries.npy", asked)
    pyhue.PixelMemory(asked.shape[1]).save(options.folder)
    with pyhue.PixelMemory.open(options.folder, "a") as memory:
        for quarter in range(4):
            count = images * (quarter + 1) // 4 - images * quarter // 4
            memory.add(bench_large.copies(options, count, quarter), np.arange(count) % 10)
            memory.flush()
        memory.optimize()


def times(search, asked):
    """Medians of searching all queries, 49 of them and one; and the answer."""
    found = {}
    for count in (len(asked), 49, 1):
        taken = []
        for _ in range(ROUNDS + 1):
            begin = time.perf_counter()
            result = search(asked[:count])
            taken.append(time.perf_counter() - begin)
        found[str(count)] = float(np.median(taken[1:]))
        if count == len(asked):
            answer = result
    return found, answer


def one(options):
    """One process of one thread."""
    pyhue.set_num_threads(1)
    memory = pyhue.PixelMemory.open(options.folder)
    found, answer = times(memory.search, np.load(f"{options.folder}.queries.npy"))
    np.savez(f"{options.folder}.answer.npz", distances=answer.distances, indices=answer.indices)
    print(json.dumps(found))


def shard(options):
    """One of two processes of one thread."""
    import torch.distributed as dist

    from pyhue.distributed import ShardedMemory

    pyhue.set_num_threads(1)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    memory = ShardedMemory(options.folder)
    found, answer = times(memory.search, np.load(f"{options.folder}.queries.npy"))
    expected = np.load(f"{options.folder}.answer.npz")
    for name, array in answer._asdict().items():
        np.testing.assert_array_equal(array, expected[name])
    if rank == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


def main():
    """Writes the folder, and every measurement in processes of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--activations", help="npy file (images, 49, channels)")
    parser.add_argument("--vectors", type=int, default=98_000)
    parser.add_argument("--dim", type=int, default=1280, help="without a file of activations")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("one", "shard"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return {"one": one, "shard": shard}[options.only](options)
    work = Path(tempfile.mkdtemp())
    options.folder = str(work / "memory")
    arguments = [__file__, *sys.argv[1:], "--folder", options.folder, "--only"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    try:
        write(options)
        found = {}
        for name, command in (("one", [*arguments, "one"]), ("two", [*torchrun, *arguments, "shard"])):
            output = subprocess.run(
                [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, env=environment
            )
            found[name] = json.loads(output.stdout)
        for count, seconds in found["one"].items():
            two = found["two"][count]
            print(
                f"{count} queries: one {1e3 * seconds:.1f} ms, two {1e3 * two:.1f} ms, {seconds / two:.2f}x"
            )
    finally:
        shutil.rmtree(work)
    return None


if __name__ == "__main__":
    main()
