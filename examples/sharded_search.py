"""Search a memory in a folder by several processes, on one machine or several; begin anew where one is lost.

    pyhue memory build features.safetensors --out memory
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 \\
        torchrun --nproc-per-node 2 --max-restarts 3 examples/sharded_search.py memory features.safetensors

Every process maps some of the folder's segments. The first one reads the images' activations and asks; all
have the answers, the same bits as those of one process. On several machines: torchrun's `--nnodes` and
`--rdzv-endpoint`, and a folder that all of them see.
"""

import argparse
import time

import numpy as np
import torch.distributed

import pyhue
from pyhue.distributed import ShardedMemory
from pyhue.features import load_features

IMAGES = 64  # asked at once


def main():
    """Prints how many images of the features file have their label."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("memory", help="folder of a memory")
    parser.add_argument("features", help="file of pyhue features")
    parser.add_argument("-k", type=int, default=10, help="neighbours of each vector")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    options = parser.parse_args()

    torch.distributed.init_process_group("gloo")
    pyhue.set_num_threads(options.threads)
    first = torch.distributed.get_rank() == 0
    features = load_features(options.features)
    with ShardedMemory(options.memory) as memory:
        print(memory, flush=True)
        predicted, begin = [], time.perf_counter()
        for start in range(0, len(features.labels), IMAGES):
            asked = features.activations[start : start + IMAGES] if first else None
            predicted.append(memory.predict(asked, options.k))  # on every process
        seconds = time.perf_counter() - begin
    right = np.mean(np.concatenate(predicted) == features.labels)
    if first:
        print(f"{right:.1%} of {len(features.labels)} images have their label; {seconds:.1f} s")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
