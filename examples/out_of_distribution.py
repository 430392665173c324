"""OpenOOD's kNN score: is an image of a class that the memory knows?

    pyhue features IMAGES --backbone timm:resnet50 --pretrained --out features.safetensors
    python out_of_distribution.py features.safetensors

Half of the classes are known; of these every second image is stored. The score of an image is its distance
to the k-th nearest stored one, of average-pooled activations of unit length (Sun et al.,
"Out-of-distribution detection with deep nearest neighbors", 2022). Beside it the same of
pixel vectors, where an image's score is the mean over its pixels.
"""

import argparse

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from pyhue import VectorMemory, pixel_vectors
from pyhue.features import load_features


def pooled(activations):
    """(images, 1, channels) float32."""
    return np.stack([maps.mean(axis=(1, 2), dtype=np.float32)[None] for maps in activations])


def scores(vectors, stored, asked, k, at_once=256):
    """(asked,) the mean of an image's vectors' distances to their k-th neighbours.

    `vectors(images)` gives (images, vectors of each, channels); `stored` and `asked` are activations.
    """
    memory = VectorMemory(stored.shape[1])
    for begin in range(0, len(stored), at_once):
        memory.add(vectors(stored[begin : begin + at_once]).reshape(-1, memory.dim))
    found = []
    for begin in range(0, len(asked), at_once):
        distances, _ = memory.search(vectors(asked[begin : begin + at_once]), k)
        farthest = np.minimum(distances[..., -1], 4)  # an all-zero vector finds nothing: as far as can be
        found.append(np.sqrt(farthest).mean(axis=1))
    return np.concatenate(found)


def report(name, unknown, found):
    """The area under the curve, and how many unknown images pass where 95 % of the known ones do."""
    wrong, right, _ = roc_curve(~unknown, -found)
    at_95 = wrong[np.searchsorted(right, 0.95)]
    print(f"{name:<16} AUROC {100 * roc_auc_score(unknown, found):6.2f}   FPR@95 {100 * at_95:6.2f}")


def main():
    """Prints both scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", help="a file of `pyhue features`")
    parser.add_argument("-k", type=int, default=5, help="which neighbour; fewer than a class has stored")
    parser.add_argument("--seed", type=int, default=0, help="which classes are known")
    options = parser.parse_args()
    features = load_features(options.features)
    classes = np.random.default_rng(options.seed).permutation(len(features.classes))
    known = np.isin(features.labels, classes[: len(classes) // 2])
    stored, others = np.flatnonzero(known)[::2], np.flatnonzero(known)[1::2]
    asked = np.concatenate((others, np.flatnonzero(~known)))
    print(f"{len(classes) // 2} of {len(classes)} classes known, {len(stored)} images stored")
    print(f"asked: {len(others)} images of known classes, {len(asked) - len(others)} of others")
    for name, vectors in (("average-pooled", pooled), ("pixel vectors", pixel_vectors)):
        activations = features.activations
        found = scores(vectors, activations[stored], activations[asked], min(options.k, len(stored)))
        report(name, ~known[asked], found)


if __name__ == "__main__":
    main()
