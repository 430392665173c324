"""The kNN evaluation of self-supervised learning, exact: how well neighbours' classes predict an image's.

    pyhue features IMAGES --backbone timm:vit_small_patch16_224.dino --pretrained --out features.safetensors
    python knn_evaluation.py features.safetensors

Images are average-pooled activations of unit length; every second image of each class is fitted, the others
are asked. Each of the k neighbours votes for its class with exp(cosine / 0.07), as in Wu et al.,
"Unsupervised feature learning via non-parametric instance discrimination", 2018, and DINO, 2021. The same by
torch's matmul and topk beside it.
"""

import argparse
import time

import numpy as np
import torch

from pyhue import VectorMemory, get_num_threads
from pyhue.features import load_features

TEMPERATURE = 0.07


def pooled(activations):
    """Unit vectors (images, channels) of activations (images, channels, H, W)."""
    vectors = np.stack([maps.mean(axis=(1, 2), dtype=np.float32) for maps in activations])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def every_second(labels):
    """Which images are the 1st, 3rd, 5th, ... of their class."""
    order = np.argsort(labels, kind="stable")
    within = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    chosen = np.empty(len(labels), bool)
    chosen[order] = within % 2 == 0
    return chosen


def votes(cosines, labels, num_classes):
    """(queries, classes) from the neighbours' cosines and labels, (queries, k)."""
    columns = num_classes * np.arange(len(labels))[:, None] + labels
    weights = np.exp((cosines - 1) / TEMPERATURE)  # the largest cosine is 1: nothing overflows
    return np.bincount(columns.ravel(), weights.ravel(), num_classes * len(labels)).reshape(-1, num_classes)


def accuracies(votes, labels):
    """Top-1 and top-5 in percent."""
    ranked = np.argsort(-votes, axis=1, kind="stable")[:, :5] == labels[:, None]
    return 100 * ranked[:, 0].mean(), 100 * ranked.any(axis=1).mean()


def timed(call):
    """The shortest of three calls, seconds, and what it returned."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), result


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", help="a file of `pyhue features`")
    parser.add_argument("-k", type=int, nargs="+", default=[10, 20, 100, 200], help="numbers of neighbours")
    options = parser.parse_args()
    features = load_features(options.features)
    vectors, fitted = pooled(features.activations), every_second(features.labels)
    known, asked = features.labels[fitted], features.labels[~fitted]
    counts = [k for k in sorted(options.k) if k <= len(known)]

    memory = VectorMemory(vectors.shape[1])
    memory.add(vectors[fitted])
    memory.optimize()
    ours, (distances, indices) = timed(lambda: memory.search(vectors[~fitted], counts[-1]))
    cosines = 1 - distances / 2  # of unit vectors

    torch.set_num_threads(get_num_threads())
    x, q = torch.from_numpy(vectors[fitted]), torch.from_numpy(vectors[~fitted])
    theirs, (torch_cosines, torch_indices) = timed(lambda: torch.topk(q @ x.T, counts[-1]))
    torch_cosines, torch_indices = torch_cosines.numpy(), torch_indices.numpy()

    print(f"{len(known)} images fitted, {len(asked)} asked, {len(features.classes)} classes")
    print(f"{'k':>4}  top-1  top-5   top-1 of torch")
    for k in counts:
        found = votes(cosines[:, :k], known[indices[:, :k]], len(features.classes))
        brute = votes(torch_cosines[:, :k], known[torch_indices[:, :k]], len(features.classes))
        (first, fifth), (expected, _) = accuracies(found, asked), accuracies(brute, asked)
        print(f"{k:>4}  {first:5.2f}  {fifth:5.2f}   {expected:5.2f}")
    print(f"search: pyhue {ours * 1e3:.1f} ms, torch matmul + topk {theirs * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
