"""Dense retrieval: labels of patches from a memory of labelled patches, as Hummingbird evaluates networks.

    python dense_retrieval.py                           # scenes made of handwritten digits
    python dense_retrieval.py features.safetensors      # each image is one segment, of its class

Nothing is trained. A patch gets the labels of its k = 30 nearest stored patches, weighted by a softmax of
cosine / 0.02 (Balazevic et al., "Towards in-context scene understanding", 2023), and the mean intersection
over union of classes tells how well the activations hold what is where. At the end, what ten million such
vectors would cost.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits

from pyhue import VectorMemory, pixel_vectors
from pyhue.features import load_features

K, TEMPERATURE, MANY = 30, 0.02, 10_000_000


def scenes(count, seed=0):
    """Activations (count, channels, 16, 16) of scenes of nine digits, and labels (count, 16, 16).

    Label 0 is background, 1 + d the digit d. An activation is the 7 x 7 window around its place: the network.
    """
    rng = np.random.default_rng(seed)
    digits, pad = load_digits(), 3
    activations, labels = np.empty((count, 49, 16, 16), np.float32), np.zeros((count, 16, 16), np.int64)
    for scene in range(count):
        canvas, segments = rng.normal(0, 0.1, (38, 38)), np.zeros((32, 32), np.int64)
        for place in range(9):
            chosen = rng.integers(len(digits.target))
            y, x = np.array(divmod(place, 3)) * 10 + rng.integers(0, 4, 2)
            canvas[pad + y : pad + y + 8, pad + x : pad + x + 8] += digits.images[chosen] / 16
            segments[y : y + 8, x : x + 8] = np.where(digits.images[chosen] > 4, digits.target[chosen] + 1, 0)
        windows = np.lib.stride_tricks.sliding_window_view(canvas, (7, 7))[::2, ::2]
        activations[scene] = windows.reshape(16, 16, 49).transpose(2, 0, 1)
        labels[scene] = segments[::2, ::2]
    return activations, labels


def of_file(path):
    """Activations of a file of `pyhue features`, and labels (images, H, W): the image's class everywhere."""
    features = load_features(path)
    shape = (len(features.labels), *features.activations.shape[2:])
    return features.activations, np.broadcast_to(features.labels[:, None, None], shape)


def predicted(memory, labels, queries, num_classes):
    """Labels (images, H x W) of queries (images, H x W, channels)."""
    distances, indices = memory.search(queries, K)
    cosines = 1 - np.minimum(distances, 4) / 2  # an all-zero patch finds nothing, at infinity
    weights = np.where(indices < 0, 0, np.exp((cosines - cosines[..., :1]) / TEMPERATURE))
    votes = np.zeros((*queries.shape[:2], num_classes), np.float32)
    for column in range(K):  # one neighbour of each patch at a time
        voted = labels[indices[..., column], None]
        more = np.take_along_axis(votes, voted, axis=2) + weights[..., column, None]
        np.put_along_axis(votes, voted, more, axis=2)
    return votes.argmax(axis=2)


def mean_iou(found, labels, num_classes):
    """The mean over classes of intersection over union."""
    confusion = np.bincount(labels.ravel() * num_classes + found.ravel(), minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    return (confusion.diagonal()[union > 0] / union[union > 0]).mean()


def main():
    """Prints the scores and the cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", nargs="?", help="a file of `pyhue features`; scenes of digits without")
    parser.add_argument("--scenes", type=int, default=300, help="how many are made; half of them are stored")
    options = parser.parse_args()
    activations, labels = of_file(options.features) if options.features else scenes(options.scenes)
    num_classes = int(labels.max()) + 1

    memory = VectorMemory(activations.shape[1])
    for image in activations[::2]:
        memory.add(pixel_vectors(image[None])[0])
    memory.optimize()
    known = labels[::2].ravel()
    found, truth, seconds = [], labels[1::2], 0.0
    for begin in range(0, len(truth), 64):
        queries = pixel_vectors(np.asarray(activations[1::2][begin : begin + 64], np.float32))
        start = time.perf_counter()
        found.append(predicted(memory, known, queries, num_classes))
        seconds += time.perf_counter() - start
    found = np.concatenate(found).reshape(truth.shape)

    per_query, size = seconds / truth.size, memory.explain()["bytes_per_vector"]
    print(f"memory: {len(memory)} patches of {memory.dim} channels, {num_classes} labels")
    print(f"patches labelled rightly: {100 * (found == truth).mean():.1f} %")
    print(f"mean intersection over union: {100 * mean_iou(found, truth, num_classes):.1f} %")
    print(f"search and vote: {1e6 * per_query:.1f} us a patch, {size:.0f} bytes a stored vector")
    many = per_query * MANY / len(memory)
    print(f"ten million: {MANY * size / 1e9:.1f} GB; {1e3 * many:.2f} ms a patch, if time grows as they do")


if __name__ == "__main__":
    main()
