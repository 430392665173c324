"""An optimised memory's plan and clusters as arrays, for files; and back, checked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyhue import _core
from pyhue._search.clusters import Clusters
from pyhue._search.index import Index
from pyhue._search.plan import FloatArray, Plan, plain, principal, sample_of
from pyhue._search.reach import SHARES, Reach
from pyhue._search.stored import Stored

Arrays = dict[str, NDArray[Any]]
Measured = dict[str, Any]
#: Arrays of what was measured of recalls, and what `Reach` calls them.
REACH = {"recall_near": "near", "recall_gaps": "gaps", "recall_spread": "spread"}
_NUMBERS = ("name", "block_ends", "row_begin", "row_ends", "stretch")


def to_arrays(index: Index) -> tuple[Arrays, str]:
    """The arrays of the index's plan and clusters, and its numbers as JSON."""
    arrays, numbers = plan_arrays(index)
    clusters = index.whole_clusters()
    return arrays | (_whole(clusters) if clusters else {}), numbers


def plan_arrays(index: Index) -> tuple[Arrays, str]:
    """Those of the plan, and the clusters' centroids, without what is said of rows."""
    plan, clusters = index.plan, index.clusters
    arrays: Arrays = {"center": plan.center, "steps": plan.steps}
    if plan.rotation is not None:
        arrays["rotation"] = plan.rotation
    if clusters is not None:
        arrays["centroids"] = clusters.centroids
    if index.reach is not None:
        arrays |= {name: getattr(index.reach, field) for name, field in REACH.items()}
    numbers = {name: getattr(plan, name) for name in _NUMBERS}
    return arrays, json.dumps(numbers | {"measured": index.measured})


def to_index(stored: Stored, arrays: Arrays, numbers: str, path: object) -> Index:
    """The index that `to_arrays` described, packed; ValueError naming `path` where the parts disagree."""
    plan, measured = _plan(arrays, numbers, path, stored)
    clusters = None
    if "order" in arrays:
        missing = {"centroids", "starts"} - set(arrays)
        if missing:
            raise ValueError(
                f"{path}: expected the plan's clusters whole, without {', '.join(sorted(missing))}"
            )
        clusters = Clusters(arrays["centroids"], arrays["order"], arrays["starts"])
    if not (_plan_fits(plan, stored.dim) and (clusters is None or _clusters_fit(clusters, plan, stored))):
        raise _misfit(path)
    index = Index(stored, plan, clusters)
    index.measured, index.reach = measured, _reach(arrays, path)
    return index


def to_plan(
    dim: int, arrays: Arrays, numbers: str, path: object
) -> tuple[Plan, Clusters | None, Measured, Reach | None]:
    """What `plan_arrays` described, clusters without rows; ValueError naming `path`."""
    plan, measured = _plan(arrays, numbers, path)
    centroids = arrays.get("centroids")
    if not (_plan_fits(plan, dim) and (centroids is None or _centroids_fit(centroids, plan))):
        raise _misfit(path)
    clusters = None if centroids is None else Clusters.without_rows(centroids)
    return plan, clusters, measured, _reach(arrays, path)


def _reach(arrays: Arrays, path: object) -> Reach | None:
    """None where nothing was measured; ValueError naming `path` where the arrays disagree."""
    if not set(REACH) & set(arrays):
        return None
    found = {field: arrays.get(name, np.empty(0)) for name, field in REACH.items()}
    queries, most = found["gaps"].shape if found["gaps"].ndim == 2 else (0, 0)
    fits = (
        queries >= 1
        and most >= 1
        and _is_array(found["near"], np.float32, (queries, most))
        and _is_array(found["gaps"], np.float64, (queries, most))
        and _is_array(found["spread"], np.float64, (queries, SHARES + 1))
    )
    if not fits or any(np.isnan(array).any() for array in found.values()):
        raise ValueError(f"{path}: what was measured of recalls does not fit together")
    return Reach(**found)


def _plan(arrays: Arrays, numbers: str, path: object, stored: Stored | None = None) -> tuple[Plan, Measured]:
    """`stored`: the vectors, where the plan may be one of 0.1.0: its coordinates serve, its stages do not."""
    try:
        read = json.loads(numbers)
        center, rotation = arrays["center"], arrays.get("rotation")
        measured = _measured(read["measured"])
        if stored is not None and "block_dims" in read:
            if not _fits(center, rotation, stored.dim):
                raise _misfit(path)
            return _of_0_1_0(stored, center, rotation), {"gf_eq": measured["gf_eq"]}
        block_ends, row_ends = (tuple(map(int, read[name])) for name in ("block_ends", "row_ends"))
        stretch = float(read["stretch"])
        if not 0 < stretch < np.inf:
            raise ValueError(f"stretch {stretch}")
        stages = block_ends, int(read["row_begin"]), row_ends, arrays["steps"]
        return Plan(str(read["name"]), center, rotation, *stages, stretch), measured
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the plan's numbers cannot be read: {error!r}") from error


def _whole(clusters: Clusters) -> Arrays:
    """Order and starts for a file, where every row up to the last has a place: hidden ones at the end."""
    order, starts = clusters.order, clusters.starts.copy()
    hidden = np.setdiff1d(np.arange(order.max(initial=-1) + 1), order, assume_unique=True)
    starts[-1] += len(hidden)
    return {"order": np.concatenate((order, hidden)), "starts": starts}


def _measured(read: Any) -> Measured:
    """What `optimize` found out: numbers, and lists of them."""
    return {
        str(name): list(map(float, value)) if isinstance(value, list) else float(value)
        for name, value in read.items()
    }


def _of_0_1_0(stored: Stored, center: FloatArray, rotation: FloatArray | None) -> Plan:
    sample = sample_of(stored)
    return plain(center, sample) if rotation is None else principal(center, rotation, sample)


def _misfit(path: object) -> ValueError:
    return ValueError(f"{path}: the plan does not fit the vectors")


def _fits(center: FloatArray, rotation: FloatArray | None, dim: int) -> bool:
    if not _is(center, np.float64, (dim,)):
        return False
    return rotation is None or (
        _is(rotation, np.float64, (*rotation.shape[:1], dim)) and 1 <= len(rotation) <= dim
    )


def _plan_fits(plan: Plan, dim: int) -> bool:
    try:
        _core.Layout(*plan.layout)
    except (ValueError, TypeError, OverflowError):
        return False
    dims = dim if plan.rotation is None else len(plan.rotation)
    return _fits(plan.center, plan.rotation, dim) and plan.dims == dims


def _clusters_fit(clusters: Clusters, plan: Plan, stored: Stored) -> bool:
    order, starts = clusters.order, clusters.starts
    return (
        _centroids_fit(clusters.centroids, plan)
        and _is(order, np.int64, (len(order),))
        and _is(starts, np.int64, (len(clusters.centroids) + 1,))
        and len(order) <= len(stored)
        and starts[0] == 0
        and starts[-1] == len(order)
        and bool((np.diff(starts) >= 0).all())
        and _each_once(order, stored)
    )


def _centroids_fit(centroids: NDArray[Any], plan: Plan) -> bool:
    count, dims = centroids.shape if centroids.ndim == 2 else (0, 0)
    return _is(centroids, np.float64, (count, dims)) and 1 <= dims <= plan.dims


def _each_once(order: NDArray[np.int64], stored: Stored) -> bool:
    """Whether `order` has each row up to some one that can be found, once; it may have others."""
    if not 0 <= order.min(initial=0) <= order.max(initial=0) < max(1, len(stored)):
        return False
    times = np.bincount(order, minlength=len(stored))
    findable = stored.findable(0, int(order.max(initial=-1)) + 1)
    return bool(times.max(initial=0) <= 1 and times[findable].all())


def _is(array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> bool:
    return _is_array(array, dtype, shape) and (dtype == np.int64 or bool(np.isfinite(array).all()))


def _is_array(array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> bool:
    return array.dtype == dtype and array.shape == shape
