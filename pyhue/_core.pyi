import numpy as np
from numpy.typing import NDArray

block: int

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def padded(dims: int) -> int: ...
def pack_memory(
    prefix: NDArray[np.float64],
    squared_norms: NDArray[np.float64],
    orthogonality_error: float,
    first: int,
    blocks: NDArray[np.uint16],
    bounds: NDArray[np.float32],
) -> None: ...
def search(
    vectors: NDArray[np.float32],
    blocks: NDArray[np.uint16],
    bounds: NDArray[np.float32],
    prefix: int,
    queries: NDArray[np.float32],
    query_prefix: NDArray[np.float64],
    query_squared_norms: NDArray[np.float64],
    orthogonality_error: float,
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def density(
    distances: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_counts: NDArray[np.int64],
    eps: float,
) -> NDArray[np.float64]: ...
