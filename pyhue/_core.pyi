from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

packed_version: int
block: int
stage_dims: int
stage_terms: int
cuda_slab: int
cuda_terms: int
cuda_chunk_step: int
reductions: dict[str, int]
hue_outputs: tuple[int, int, int, int, int]

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def limit_threads(count: int) -> None: ...
def least_products() -> int: ...
def set_least_products(count: int) -> None: ...

class Layout:
    def __init__(
        self,
        block_ends: Sequence[int],
        row_begin: int,
        row_ends: Sequence[int],
        steps: NDArray[np.float64],
    ) -> None: ...
    @property
    def block_terms(self) -> int: ...
    @property
    def block_shape(self) -> tuple[int, ...]: ...
    @property
    def padded_row_dims(self) -> int: ...

class Packed:
    def __init__(
        self,
        layout: Layout,
        order: NDArray[np.int64],
        blocks: NDArray[np.uint8],
        bounds: NDArray[np.float32],
        rows: NDArray[np.uint8] | None,
        row_bounds: NDArray[np.float32] | None,
        cluster_starts: NDArray[np.int64] | None,
    ) -> None: ...

class Piece:
    @overload
    def __init__(
        self, vectors: NDArray[np.float32] | NDArray[np.uint16], packed: Packed, first: int = 0
    ) -> None: ...
    @overload
    def __init__(
        self, vectors: NDArray[np.float32] | NDArray[np.uint16], order: NDArray[np.int64], first: int = 0
    ) -> None: ...

class Coordinates:
    def __init__(
        self, values: NDArray[np.float64], squared_norms: NDArray[np.float64], error: float
    ) -> None: ...
    @property
    def values(self) -> NDArray[np.float64]: ...
    @property
    def squared_norms(self) -> NDArray[np.float64]: ...
    @property
    def error(self) -> float: ...

class Projection:
    def __init__(
        self,
        center: NDArray[np.float64],
        rotation: NDArray[np.float64] | None,
        stretch: float = 1.0,
    ) -> None: ...
    @property
    def rotation(self) -> NDArray[np.float64] | None: ...
    def coordinates(self, vectors: NDArray[np.float32]) -> Coordinates: ...
    def of_rows(
        self, vectors: NDArray[np.float32] | NDArray[np.uint16], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]: ...

class Queries:
    def __init__(
        self,
        vectors: NDArray[np.float32],
        coordinates: Coordinates,
        clusters: NDArray[np.int32],
    ) -> None: ...

def store_rows(
    values: NDArray[np.float32] | NDArray[np.float64],
    normalize: bool,
    to: NDArray[np.float32] | NDArray[np.uint16],
    zero: NDArray[np.bool_],
) -> int: ...
def pack(
    packed: Packed, projection: Projection, vectors: NDArray[np.float32] | NDArray[np.uint16]
) -> None: ...

class Chosen:
    def __init__(
        self,
        left_out: NDArray[np.uint8] | None,
        groups: NDArray[np.int64] | None,
        excluded: NDArray[np.int64] | None,
    ) -> None: ...

class Visits:
    def __init__(
        self,
        scores: NDArray[np.float64],
        limits: NDArray[np.float64],
        distances: NDArray[np.float32],
    ) -> None: ...

def search(
    pieces: Sequence[Piece],
    layout: Layout,
    queries: Queries,
    k: int,
    chosen: Chosen | None = None,
    limits: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[int, int, int, int]]: ...
def near_distances(
    pieces: Sequence[Piece], layout: Layout, queries: Queries, k: int, chosen: Chosen | None = None
) -> NDArray[np.float32]: ...
def search_visited(
    pieces: Sequence[Piece],
    layout: Layout,
    queries: Queries,
    k: int,
    visits: Visits,
    chosen: Chosen | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[int, int, int, int]]: ...
def within(
    pieces: Sequence[Piece], layout: Layout, queries: Queries, radius: float, chosen: Chosen | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]: ...
def audit(
    piece: Piece, queries: Queries, distances: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
def density(
    distances: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_counts: NDArray[np.int64],
    eps: float,
) -> NDArray[np.float64]: ...
