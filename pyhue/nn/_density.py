"""Operators of the density and of its gradient to the activations, with their autograd and fake kernels.

The forward searches and returns with the log-likelihoods what the backward needs of the neighbours; their
vectors it reads from the memory itself.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyhue import _core
from pyhue._arrays import positive_number
from pyhue._cuda.density import DeviceDensity
from pyhue._search.chunked import chunks_of
from pyhue._search.labelled import Labelled
from pyhue.memory import PixelMemory
from pyhue.nn._autograd import refuse_double_backward, transforms_active
from pyhue.nn._check import FLOATING
from pyhue.nn._memories import memory_of
from pyhue.nn._ops import ops
from pyhue.pixel_vectors import image_vectors


class _Neighbors(NamedTuple):
    """What the pixels of images found, (images, pixels, k), where they are compared."""

    stored: Labelled
    distances: Tensor
    indices: Tensor


class _OnCpu:
    """A memory whose vectors are compared with activations on the CPU, wherever it searches."""

    def __init__(self, memory: PixelMemory):
        self._memory = memory

    def neighbors(self, vectors: Tensor, k: int) -> _Neighbors:
        given = vectors.reshape(-1, vectors.shape[2]).numpy()
        search = self._memory._memory._on_gpu or self._memory._memory._on_cpu
        stored, *found = search.neighbors(self._memory._newest, given, "activations", k)
        distances, indices = (torch.as_tensor(part).cpu().reshape(*vectors.shape[:2], k) for part in found)
        return _Neighbors(stored, distances, indices)

    def density(self, found: _Neighbors, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        columns, counts = found.stored.columns(found.indices.numpy()), found.stored.class_counts.copy()
        result = _core.density(found.distances.numpy(), columns, counts, eps)
        return torch.from_numpy(result), torch.from_numpy(columns), torch.from_numpy(counts)

    def vectors(self, indices: Tensor) -> tuple[list[Tensor], Tensor]:
        return [_bits(chunk) for _, chunk in chunks_of(self._memory._newest().array)], indices


class _OnGpu:
    """The same on the GPU where the memory and the activations are."""

    def __init__(self, memory: PixelMemory, voting: DeviceDensity):
        self._memory, self._voting = memory, voting

    def neighbors(self, vectors: Tensor, k: int) -> _Neighbors:
        flat = vectors.reshape(-1, vectors.shape[2])
        stored, *found = self._voting.search.neighbors(self._memory._newest, flat, "activations", k)
        distances, indices = (part.reshape(*vectors.shape[:2], k) for part in found)
        return _Neighbors(stored, distances, indices)

    def density(self, found: _Neighbors, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        votes = self._voting.vote(*found, eps)
        return votes.log_likelihood, votes.columns, votes.class_counts

    def vectors(self, indices: Tensor) -> tuple[list[Tensor], Tensor]:
        return self._voting.search.pieces(self._memory._newest(), indices)


def _bits(array: NDArray[Any]) -> Tensor:
    """Stored vectors as a tensor, bfloat16 where they are stored so; read only, as the array may be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not writable", UserWarning)
        if array.itemsize == 2:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


def _place(memory: PixelMemory, activations: Tensor) -> tuple[_OnCpu | _OnGpu, Any]:
    """What compares activations with stored vectors, on the GPU where both are there; and its operators."""
    voting = memory._on_gpu()
    if voting is not None and activations.device.type == voting.search.device.type:
        return _OnGpu(memory, voting), voting.search.ops
    return _OnCpu(memory), ops


@torch.library.custom_op("pyhue::pixel_density", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _forward(
    activations: Tensor, memory: Tensor, num_classes: int, k: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of pixel vectors (images, pixels, dim), float32 or float64, and a handle.

    Returns:
        log-likelihoods (images, num_classes) float64; distances, of the type of the activations, indices and
        columns (images, pixels, k); class counts (num_classes,).
    """
    searched = memory_of(memory)
    eps = positive_number(eps, "eps")
    place, operators = _place(searched, activations)
    there = isinstance(place, _OnGpu)
    vectors = image_vectors(activations if there else activations.cpu(), searched.dim).contiguous()
    if not there and not bool(vectors.isfinite().all()):
        raise ValueError("activations: expected finite values, got NaN or Inf")
    found = place.neighbors(vectors, k)
    if activations.dtype == torch.float64:  # those of the search are rounded to float32
        pieces, places = place.vectors(found.indices)
        exact = operators.density_distances(vectors, pieces, places, searched.normalize)
        if searched.normalize:  # where nothing was found for want of a direction, nothing is
            exact = exact.masked_fill(found.indices < 0, float("inf"))
        found = found._replace(distances=exact)
    result, columns, counts = place.density(found, eps)
    if result.shape[1] != num_classes:
        raise ValueError(f"memory: expected {num_classes} classes, as before, got {result.shape[1]}")
    outputs = (result, found.distances, found.indices, columns, counts.clone())
    return tuple(tensor.to(activations.device) for tensor in outputs)  # type: ignore[return-value]


@_forward.register_fake
def _(
    activations: Tensor, memory: Tensor, num_classes: int, k: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    images, pixels = activations.shape[:2]
    neighbors = (images, pixels, k)
    return (
        activations.new_empty((images, num_classes), dtype=torch.float64),
        activations.new_empty(neighbors),
        activations.new_empty(neighbors, dtype=torch.int64),
        activations.new_empty(neighbors, dtype=torch.int64),
        activations.new_empty((num_classes,), dtype=torch.int64),
    )


@torch.library.custom_op("pyhue::pixel_density_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    activations: Tensor,
    log_likelihood: Tensor,
    distances: Tensor,
    indices: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    memory: Tensor,
    eps: float,
) -> Tensor:
    searched = memory_of(memory)
    place, operators = _place(searched, activations)
    there = isinstance(place, _OnGpu)
    pieces, places = place.vectors(indices if there else indices.cpu())
    tensors = (gradient, log_likelihood, activations, distances, places, labels, class_counts)
    here = [(tensor if there else tensor.cpu()).contiguous() for tensor in tensors]
    result: Tensor = operators.density_backward(*here, pieces, searched.normalize, eps)
    return result.to(activations.device)


@_backward.register_fake
def _(gradient: Tensor, activations: Tensor, *others: Any) -> Tensor:
    return activations.new_empty(activations.shape)


def _one_batch(members: int, tensor: Tensor, dim: int | None) -> Tensor:
    """A tensor of `members` batches of images as one batch of all their images."""
    batches = tensor.movedim(dim, 0) if dim is not None else tensor.expand(members, *tensor.shape)
    return batches.reshape(-1, *batches.shape[2:])


class _PixelDensityGradient(torch.autograd.Function):
    """The operator of the gradient, for torch.func; it has no gradient of its own."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        gradient: Tensor = _backward(*arguments)
        return gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
        refuse_double_backward(0, *gradients)
        return (None,) * 9

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        pairs = zip(arguments[:6], in_dims[:6], strict=True)
        by_image = (_one_batch(info.batch_size, tensor, dim) for tensor, dim in pairs)
        gradient: Tensor = _gradient(*by_image, *arguments[6:])
        return gradient.reshape(info.batch_size, -1, *gradient.shape[1:]), 0


class _PixelDensity(torch.autograd.Function):
    """The operators as one function, of which the first output is differentiable; for torch.func too."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = _forward(*arguments)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        activations, memory, _, _, eps = inputs
        if not transforms_active():
            ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(activations, *output, memory)
        ctx.eps = eps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        # What is compiled takes no function within the backward of another, and has no double backward.
        gradient_of = _backward if torch.compiler.is_compiling() else _gradient
        return (gradient_of(gradient, *ctx.saved_tensors, ctx.eps), *(None,) * 4)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], activations: Tensor, *others: Any) -> tuple[Any, Any]:
        batch = _one_batch(info.batch_size, activations, in_dims[0])
        *by_image, counts = _outputs(batch, *others)
        members = (tensor.reshape(info.batch_size, -1, *tensor.shape[1:]) for tensor in by_image)
        return (*members, counts), (0, 0, 0, 0, None)


_outputs: Callable[..., tuple[Tensor, ...]] = _PixelDensity.apply
_gradient: Callable[..., Tensor] = _PixelDensityGradient.apply


def log_likelihood(activations: Tensor, handle: Tensor, num_classes: int, k: int, eps: float) -> Tensor:
    """Of activations (images, pixels, dim) or (images, dim, H, W), as the public functions return it."""
    if activations.dtype not in FLOATING:
        raise TypeError(
            f"activations: expected float32, float64, bfloat16 or float16, got {activations.dtype}"
        )
    wide = torch.promote_types(activations.dtype, torch.float32)
    vectors = activations.flatten(2).transpose(1, 2) if activations.dim() == 4 else activations
    outputs = _outputs(vectors.to(wide), handle, num_classes, k, eps)
    found: Tensor = outputs[0]
    return found.to(wide)
