import numpy as np
from numpy.typing import NDArray

block: int

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...

class Memory:
    def __init__(
        self,
        vectors: NDArray[np.float32] | NDArray[np.uint16],
        order: NDArray[np.int64],
        blocks: NDArray[np.uint16],
        bounds: NDArray[np.float32],
        rows: NDArray[np.uint16],
        row_bounds: NDArray[np.float32],
        cluster_starts: NDArray[np.int64] | None,
        block_dims: int,
        row_dims: int,
    ) -> None: ...

class Coordinates:
    def __init__(
        self, values: NDArray[np.float64], squared_norms: NDArray[np.float64], orthogonality_error: float
    ) -> None: ...

class Queries:
    def __init__(
        self,
        vectors: NDArray[np.float32],
        coordinates: Coordinates,
        clusters: NDArray[np.int32],
        omit: float,
    ) -> None: ...

def store_rows(
    values: NDArray[np.float32] | NDArray[np.float64],
    normalize: bool,
    to: NDArray[np.float32] | NDArray[np.uint16],
    zero: NDArray[np.bool_],
) -> int: ...
def project(vectors: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]: ...
def pack(memory: Memory, coordinates: Coordinates, first: int) -> None: ...
def search(memory: Memory, queries: Queries, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def audit(
    memory: Memory, queries: Queries, distances: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], float]: ...
def density(
    distances: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_counts: NDArray[np.int64],
    eps: float,
) -> NDArray[np.float64]: ...
