"""How a memory is packed: coordinates that keep distances, and which of them the filters read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyhue._search.stored import Stored

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Coordinates z = rotation (x - center), and which of them are stored.

    Whatever the plan, search is exact; it decides the speed only.
    """

    name: str
    center: FloatArray  #: (dim,)
    rotation: FloatArray | None  #: (block_dims + row_dims, dim), orthonormal rows; None: identity
    block_dims: int  #: coordinates in blocks, read by the first filter
    row_dims: int = 0  #: coordinates in rows, read by the second filter; 0: there is none
    omit: float = 0.0  #: share of a query's norm that the first filter may leave out
    steps: FloatArray | None = None  #: (block_dims,) what int8 blocks count in; None: blocks are bfloat16

    @property
    def layout(self) -> tuple[int, int, FloatArray | None]:
        """What `_core.Layout` takes."""
        return self.block_dims, self.row_dims, self.steps

    @property
    def orthogonality_error(self) -> float:
        """Upper bound of the relative change of squared norms by the rotation, rounding included."""
        if self.rotation is None:
            return 0.0
        rows, dim = self.rotation.shape
        deviation = np.linalg.norm(self.rotation @ self.rotation.T - np.eye(rows))
        return float(4 * (deviation + dim * rows * np.finfo(np.float64).eps))

    def coordinates(
        self, vectors: NDArray[np.float32], multiply: Callable[[FloatArray, FloatArray], FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Coordinates (n, block_dims + row_dims) and squared norms (n,) of vectors (n, dim).

        `multiply(a, b)` is the product of a with b transposed.
        """
        centred = vectors - self.center
        squared_norms = np.einsum("ij,ij->i", centred, centred)
        return (centred if self.rotation is None else multiply(centred, self.rotation)), squared_norms


def mean(stored: Stored) -> FloatArray:
    """The mean vector in float64."""
    total = np.zeros(stored.dim)
    for part in stored.parts():
        total += part.sum(axis=0, dtype=np.float64)
    return total / max(1, len(stored))


def plain(center: FloatArray) -> Plan:
    """Every coordinate is read: right for small memories, and where nothing prunes."""
    return Plan("plain", center, None, len(center))


def sparse(dim: int, omit: float) -> Plan:
    """Each tile of queries reads the channels where its norm lies: right for sparse activations.

    Not centred, which would fill the zeros.
    """
    return Plan("sparse", np.zeros(dim), None, dim, omit=omit)


def principal(center: FloatArray, directions: FloatArray, block_dims: int, dims: int) -> Plan:
    """The leading principal directions: right where few of them hold most of the variance."""
    return Plan("principal", center, directions[:dims], block_dims, dims - block_dims)


def in_bytes(plan: Plan, sample: NDArray[np.float32]) -> Plan:
    """The plan with int8 blocks, whose steps suit a sample of the vectors.

    A coordinate of standard deviation s counts in steps proportional to sqrt(s): coarser where values are
    large, but less so than they are, since the query's coordinates, times the steps, share one scale. The
    largest coordinate of the sample is 127 steps; what is beyond is cut, and counts as error.
    """
    coordinates, _ = plan.coordinates(sample, lambda vectors, rows: vectors @ rows.T)
    blocks = coordinates[:, : plan.block_dims]
    roots = np.sqrt(blocks.std(axis=0))
    steps = np.maximum(roots, 1e-3 * roots.max(initial=0.0))
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        steps = np.ones(plan.block_dims)
    largest = float(np.abs(blocks / steps).max(initial=0.0)) or 1.0
    return replace(plan, steps=np.maximum(steps * (largest / 127), np.finfo(np.float64).tiny))


def principal_directions(sample: NDArray[np.float32], center: FloatArray) -> FloatArray:
    """Orthonormal (dim, dim), in falling order of the sample's variance about the center."""
    centred = sample - center
    scale = np.abs(centred).max(initial=0) or 1.0  # squares of the quotient fit float32
    centred = (centred / scale).astype(np.float32)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    orthonormal, _ = np.linalg.qr(vectors[:, ::-1].astype(np.float64))
    directions: FloatArray = np.ascontiguousarray(orthonormal.T)
    return directions
