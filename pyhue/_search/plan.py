"""How a memory is packed: coordinates that keep distances, and in which stages the filters read them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.stored import Stored

FloatArray = NDArray[np.float64]

SAMPLE = 4096  #: vectors that stand for a memory
_PART = 8192  # vectors taken at once
_STAGES = 10  # of all coordinates, about; later stages are longer
_SMALLEST_SPREAD = 1e-3  # of the largest, that steps follow


@dataclass(frozen=True)
class Plan:
    """Coordinates z = rotation (x - center) / stretch, and which of them are stored.

    Whatever the plan, search is exact; it decides the speed only.
    """

    name: str
    center: FloatArray  #: (dim,)
    rotation: FloatArray | None  #: (dims, dim), best orthonormal rows; None: identity
    block_ends: tuple[int, ...]  #: where stages of the first filter end; blocks hold what is before the last
    row_begin: int  #: where rows begin, which the second filter reads
    row_ends: tuple[int, ...]  #: where its stages end; empty: there is none
    steps: FloatArray  #: (dims,) what each coordinate counts in
    stretch: float = 1.0  #: at least what the rotation, as it is rounded, multiplies a norm by

    @property
    def dims(self) -> int:
        """How many coordinates there are."""
        return max(self.block_ends[-1:] + self.row_ends[-1:])

    @property
    def layout(self) -> tuple[tuple[int, ...], int, tuple[int, ...], FloatArray]:
        """What `_core.Layout` takes."""
        return self.block_ends, self.row_begin, self.row_ends, self.steps

    @functools.cached_property
    def core_layout(self) -> _core.Layout:
        """The same, checked."""
        return _core.Layout(*self.layout)

    @functools.cached_property
    def projection(self) -> _core.Projection:
        """From vectors to coordinates."""
        return _core.Projection(self.center, self.rotation, self.stretch)

    def leading(self, dims: int) -> _core.Projection:
        """To the first coordinates."""
        if dims not in self._leading:
            rotation = np.eye(dims, len(self.center)) if self.rotation is None else self.rotation[:dims]
            self._leading[dims] = _core.Projection(self.center, rotation, self.stretch)
        return self._leading[dims]

    @functools.cached_property
    def _leading(self) -> dict[int, _core.Projection]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def mean(stored: Stored) -> FloatArray:
    """The mean in float64 of the vectors that can be found."""
    total, count = np.zeros(stored.dim), 0
    for begin in range(0, len(stored), _PART):
        end = min(len(stored), begin + _PART)
        rows = stored.findable(begin, end)
        count += len(rows)
        some = stored.rows(rows if len(rows) < end - begin else slice(begin, end))
        total += some.sum(axis=0, dtype=np.float64)
    return total / max(1, count)


def sample_of(stored: Stored) -> NDArray[np.float32]:
    """Some thousand of the vectors that can be found, evenly."""
    step = max(1, -(-len(stored) // SAMPLE))
    if len(stored.hidden):
        return stored.rows(stored.findable(0, len(stored))[::step])
    return stored.rows(slice(None, None, step))


def plain(center: FloatArray, sample: NDArray[np.float32]) -> Plan:
    """The channels themselves, read at once: right for small memories, and where nothing prunes."""
    dim = len(center)
    return Plan("plain", center, None, (dim,), dim, (), steps(sample - center))


def principal(
    center: FloatArray,
    directions: FloatArray,
    sample: NDArray[np.float32],
    block_dims: int | None = None,
    row_begin: int | None = None,
) -> Plan:
    """The principal directions, in stages: right where the leading ones hold most of the variance.

    All in blocks; or with `block_dims` in blocks, to be left from `row_begin` on, and what follows in rows.
    """
    dims = len(directions)
    counts = steps((sample - center) @ directions.T)
    stretch = stretch_of(center, directions)
    plan = Plan("principal", center, directions, stage_ends(dims), dims, (), counts, stretch)
    return plan if block_dims is None else _with_rows(plan, block_dims, row_begin)


def _with_rows(plan: Plan, block_dims: int, row_begin: int | None = None) -> Plan:
    """The same with `block_dims` in blocks, to be left from `row_begin` on, and what follows in rows."""
    ends = stage_ends(plan.dims)
    begin = plan.dims if row_begin is None else row_begin
    next_end = min(end for end in ends if end > block_dims)
    row_ends = sorted({block_dims, next_end, plan.dims})
    return replace(
        plan,
        block_ends=(*(end for end in ends if end < block_dims), block_dims),
        row_begin=begin,
        row_ends=tuple(end for end in row_ends if end > begin),
    )


def stage_ends(dims: int) -> tuple[int, ...]:
    """Where stages of so many coordinates end."""
    unit = max(1, round(dims / _STAGES / _core.stage_dims)) * _core.stage_dims
    ends = [unit * count for count in (1, 2, 3, 4, 6, 8, 10, 13, 16)]
    return (*(end for end in ends if end < dims), dims)


def steps(coordinates: FloatArray) -> FloatArray:
    """What each coordinate counts in, (dims,), for vectors like these (n, dims).

    A coordinate of standard deviation s counts in steps proportional to s^0.4: coarser where values are
    large, but less so than they are, since the query's coordinates, times the steps, share one scale. The
    largest coordinate is 127 steps; what is beyond is cut, and counts as error.
    """
    if not len(coordinates):
        return np.ones(coordinates.shape[1])
    spread = coordinates.std(axis=0)
    raised = np.maximum(spread, _SMALLEST_SPREAD * spread.max(initial=0.0)) ** 0.4
    if not (np.isfinite(raised).all() and (raised > 0).all()):
        raised = np.ones(coordinates.shape[1])
    largest = float(np.abs(coordinates / raised).max(initial=0.0)) or 1.0
    counted: FloatArray = np.maximum(raised * (largest / 127), np.finfo(np.float64).tiny)
    return counted


def stretch_of(center: FloatArray, rotation: FloatArray) -> float:
    """What `_core.Projection` with this rotation multiplies a norm by, at most.

    With D = R R' - I, which rounding makes small: |R|^2 <= 1 + |D|, and |D| is at most the 8th root of the
    Frobenius norm of D^8.
    """
    rounded = _core.Projection(center, rotation).rotation
    assert rounded is not None
    deviation = rounded @ rounded.T - np.eye(len(rounded))
    size = float(np.linalg.norm(deviation))
    if size == 0:
        return 1.0
    power = (deviation / size).astype(np.float32)
    for _ in range(3):
        power = power @ power
    # The rounding of float32 in them, and of the deviation itself.
    norm = 1.01 * size * float(np.linalg.norm(power.astype(np.float64))) ** (1 / 8) + 1e-10
    return float(np.sqrt(1 + norm))


def principal_directions(sample: NDArray[np.float32], center: FloatArray) -> FloatArray:
    """Orthonormal (dim, dim), in falling order of the sample's variance about the center."""
    centred = sample - center
    scale = np.abs(centred).max(initial=0) or 1.0  # squares of the quotient fit float32
    centred = (centred / scale).astype(np.float32)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    directions: FloatArray = np.ascontiguousarray(vectors.T[::-1], np.float64)
    # Orthonormal as far as float32 goes: a step of Newton and Schulz squares what is missing.
    return 1.5 * directions - 0.5 * (directions @ directions.T) @ directions
