"""The density with its gradient in plain torch: reads like the formula, the oracle of tests."""

import math

import torch
from torch import Tensor

import pyhue


def log_density(
    vectors: Tensor,
    neighbors: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    normalize: bool,
    eps: float,
    nearest: Tensor | None = None,
) -> Tensor:
    """Class log-likelihoods (images, classes), in the type of `vectors`.

    Args:
        vectors: of pixels, (images, pixels, dim).
        neighbors: the stored vectors that they found, (images, pixels, k, dim).
        labels: their classes (images, pixels, k), -1 where there is no neighbour.
        class_counts: (classes,).
        normalize: compare unit vectors.
        eps: added to the squared bandwidth.
        nearest: which neighbour is the nearest, (images, pixels); None finds it.
    """
    if normalize:
        largest = vectors.detach().abs().amax(-1, keepdim=True)
        scaled = vectors / torch.where(largest > 0, largest, 1)
        vectors = scaled / torch.where(largest > 0, scaled, 1).norm(dim=-1, keepdim=True)
    found = labels >= 0
    distances = (vectors[:, :, None] - neighbors.to(vectors)).square().sum(-1)
    if nearest is None:
        nearest = torch.where(found, distances, torch.inf).argmin(-1)
    bandwidth = distances.gather(-1, nearest[..., None]) + eps
    exponents = torch.where(found, -distances / bandwidth, -torch.inf)
    result = exponents.new_full((len(labels), len(class_counts)), -torch.inf) + 0 * vectors.sum()
    for image in range(len(labels)):
        for c in labels[image][found[image]].unique().tolist():
            votes = exponents[image][labels[image] == c]
            result[image, c] = votes.logsumexp(0) - math.log(class_counts[c])
    return result


def reference_pixel_density(activations: Tensor, memory: pyhue.PixelMemory, k: int, eps: float) -> Tensor:
    """In float64, whatever the activations are; the neighbours are the memory's."""
    vectors = pyhue.pixel_vectors(activations) if activations.dim() == 4 else activations
    indices = memory.search(vectors.detach(), k).indices
    labels = torch.where(indices >= 0, torch.tensor(memory.labels)[indices], -1)
    # Those of the search are sorted by distances in float32, which types below float64 are compared in.
    nearest = None if activations.dtype == torch.float64 else torch.zeros_like(indices[..., 0])
    return log_density(
        vectors.double(),
        torch.tensor(memory.vectors)[indices],
        labels,
        torch.tensor(memory.class_counts),
        normalize=memory.normalize,
        eps=eps,
        nearest=nearest,
    )
