"""Arrays at the boundary: NumPy or torch in, NumPy inside, the caller's kind out."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOATS = ("float16", "bfloat16", "float32", "float64")
_PADDED = 65_536  # columns that a search may have beyond the vectors stored


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any, name: str) -> NDArray[Any]:
    """The values of a NumPy array, a torch CPU tensor or nested lists; bfloat16 becomes float32."""
    if not is_tensor(value):
        try:
            return np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name}: expected an array or evenly nested lists: {error}") from error
    if value.device.type != "cpu":
        raise TypeError(f"{name}: expected a CPU tensor, got one on {value.device}")
    value = value.detach()
    try:
        return np.asarray(
            (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy(force=True)
        )
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{name}: expected a dense tensor of a dtype that NumPy has or bfloat16, got {value.dtype}, "
            f"{value.layout}"
        ) from error


def floating(value: Any, name: str) -> NDArray[np.floating[Any]]:
    """Like `to_numpy`, for float16, bfloat16, float32 and float64 only."""
    array = to_numpy(value, name)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{name}: expected one of {', '.join(FLOATS)}, got {array.dtype}")
    return array


def feature_map_array(value: Any) -> NDArray[np.floating[Any]]:
    """Like `floating`, for the argument feature_maps: (images, channels, H, W), none of the sizes 0."""
    maps = floating(value, "feature_maps")
    if maps.ndim != 4 or 0 in maps.shape:
        raise ValueError(
            f"feature_maps: expected (images, channels, H, W), each at least 1, got {maps.shape}"
        )
    return maps


def integers(value: Any, name: str) -> NDArray[np.int64]:
    """Like `to_numpy`, for integer dtypes only, as int64."""
    array = to_numpy(value, name)
    if array.dtype == object:
        for each in array.flat:
            if isinstance(each, int) and not -(2**63) <= each < 2**63:
                raise ValueError(f"{name}: expected integers from -2**63 to 2**63 - 1, got {each}")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected integers below 2**63, got {array.max()}")
    return array.astype(np.int64)


def like(result: NDArray[Any], given: object) -> Any:
    """`result` as the kind of array that `given` is."""
    return sys.modules["torch"].from_numpy(result) if is_tensor(given) else result


def positive_integer(value: Any, name: str, largest: int = 2**31 - 1, smallest: int = 1) -> int:
    """`value` as an int from `smallest` to `largest`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < smallest:
        raise ValueError(f"{name}: expected at least {smallest}, got {value}")
    if value > largest:
        raise ValueError(f"{name}: expected at most {largest}, got {value}")
    return int(value)


def positive_number(value: Any, name: str) -> float:
    """`value` as a finite float above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not 0 < value < np.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")
    return float(value)


def asked_recall(value: Any) -> float | None:
    """`value` as a float above 0 and below 1; None where it asks for all neighbours."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"recall: expected a number or None, got {type(value).__name__}")
    if not 0 < value <= 1:
        raise ValueError(f"recall: expected above 0 and at most 1, got {value}")
    return None if value == 1 else float(value)


def boolean(value: Any, name: str) -> bool:
    """`value` as a bool; what merely counts as true is refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def neighbor_count(k: Any, stored: int) -> int:
    """`k` as an int: at most the vectors stored, or so few that columns without a neighbour do no harm."""
    count = positive_integer(k, "k")
    if count > max(stored, _PADDED):
        raise ValueError(
            f"k: expected at most {_PADDED}, or the {stored} vectors stored where these are more, got {count}"
        )
    return count
