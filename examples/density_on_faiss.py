"""The density vote on neighbours that FAISS found: any search will do that gives squared distances."""

import faiss
import numpy as np
from sklearn.datasets import load_digits

import pyhue

digits = load_digits()
patches = np.lib.stride_tricks.sliding_window_view(digits.images.astype(np.float32), (4, 4), axis=(1, 2))
vectors = patches[:, ::2, ::2].reshape(len(patches), 9, 16)  # each image is a set of 9 patches of 4 x 4
vectors = np.ascontiguousarray(vectors - vectors.mean(axis=2, keepdims=True))
order = np.random.default_rng(0).permutation(len(vectors))
known, asked = order[:1400], order[1400:]

index = faiss.IndexFlatL2(16)
index.add(vectors[known].reshape(-1, 16))
distances, indices = index.search(vectors[asked].reshape(-1, 16), 10)
distances = np.maximum(distances, 0)  # sums of products can fall below 0

labels = np.repeat(digits.target[known], 9)  # class of each stored vector
shape = (len(asked), 9, 10)  # images, vectors of an image, neighbours
log_likelihood = pyhue.density(distances.reshape(shape), labels[indices].reshape(shape), np.bincount(labels))
predicted = log_likelihood.argmax(axis=1)
print(f"accuracy on {len(asked)} digits: {(predicted == digits.target[asked]).mean():.3f}")
