"""Exact search on a GPU against torch's bfloat16 matmul and topk: python bench/bench_cuda_search.py."""

from __future__ import annotations

import numpy as np
import torch
from cuda_record import record
from cuda_timing import captured, copy_bandwidth, matrix_rate, medians
from torch import Tensor

from pyhue._cuda.index import DeviceIndex
from pyhue._cuda.operators import operators
from pyhue._cuda.pieces import Piece, Place, pack
from pyhue._search.stored import Stored

N, DIM, K = 4_000_000, 1280, 10
STREAMED = 1_000_000  # vectors of the memory that stays on the host
TILES = (65_536, 262_144)  # vectors of a tile of the rival; the better one counts


def rival(vectors: Tensor, queries: Tensor, k: int, tile: int) -> Tensor:
    """Indices of the k largest dot products: for unit vectors the k nearest, up to rounding."""
    best = queries.new_full((len(queries), k), -torch.inf)
    index = torch.zeros(len(queries), k, dtype=torch.int64, device=queries.device)
    for start in range(0, len(vectors), tile):
        value, which = (queries @ vectors[start : start + tile].T).topk(k)
        value, keep = torch.cat((best, value), 1).topk(k)
        best, index = value, torch.cat((index, which + start), 1).gather(1, keep)
    return index


def index_of(vectors: Tensor) -> DeviceIndex:
    """A memory of vectors that lie on the GPU already."""
    index = DeviceIndex(DIM, vectors.device, operators(vectors.device))
    index._center = vectors[:100_000].mean(0, dtype=torch.float64)
    index._pieces = [Piece(0, vectors, *pack(vectors, index._center, index._ops), Place.GPU)]
    return index


def streamed_index_of(vectors: Tensor) -> DeviceIndex:
    """A memory of which every search copies all from the host."""
    index = DeviceIndex(DIM, vectors.device, operators(vectors.device), max_bytes=0)
    array = vectors.view(torch.int16).cpu().numpy().view(np.uint16)
    index.update(Stored(array))
    return index


def assert_exact(index: DeviceIndex, vectors: Tensor, queries: Tensor) -> None:
    """Compares the first queries and the last ones with float64 over the whole memory."""
    found, indices = index.search(queries, K)
    for q in (0, 1, 2, -2, -1):
        exact = torch.cat(
            [(part.double() - queries[q].double()).square().sum(1) for part in vectors.split(200_000)]
        )
        nearest = exact.topk(K, largest=False).values
        torch.testing.assert_close(found[q].double(), nearest, rtol=1e-5, atol=0)
        torch.testing.assert_close(exact[indices[q]], found[q].double(), rtol=1e-5, atol=0)


def main() -> None:
    """Measures 49, 490 and 4,900 queries, and 490 with the memory on the host."""
    torch.manual_seed(0)
    vectors = torch.empty(N, DIM, dtype=torch.bfloat16, device="cuda")
    for part in vectors.split(100_000):
        part.copy_(torch.nn.functional.normalize(torch.randn(len(part), DIM, device="cuda").relu()))
    index, streamed = index_of(vectors), streamed_index_of(vectors[:STREAMED])
    bandwidth, rate = copy_bandwidth(), matrix_rate()
    rows = []
    for count in (49, 490, 4900):
        queries = torch.nn.functional.normalize(torch.randn(count, DIM, device="cuda").relu())
        narrow = queries.bfloat16()
        assert_exact(index, vectors, queries)
        functions = {"pyhue": lambda queries=queries: index.search(queries, K)}
        for tile in TILES:
            functions[f"torch {tile}"] = lambda narrow=narrow, tile=tile: rival(vectors, narrow, K, tile)
        functions["pyhue graph"] = captured(functions["pyhue"])
        times = medians(functions, repeats=7)
        floor = max(vectors.nbytes / bandwidth, 2 * N * DIM * count / rate) * 1e3
        torch_ms = min(ms for name, ms in times.items() if name.startswith("torch"))
        rows.append(
            {
                "queries": count,
                "pyhue ms": times["pyhue"],
                "pyhue graph ms": times["pyhue graph"],
                "floor ms": floor,
                "of floor": floor / times["pyhue"],
                "torch ms": torch_ms,
                "faster": torch_ms / times["pyhue"],
            }
        )
        if count == 490:
            assert_exact(streamed, vectors[:STREAMED], queries)
            ms = medians({"": lambda queries=queries: streamed.search(queries, K)}, repeats=7)[""]
            moved = sum(piece.blocks.nbytes + piece.terms.nbytes for piece in streamed._pieces)
            rows.append({"queries": count, "streamed": STREAMED, "pyhue ms": ms, "GB/s": moved / ms / 1e6})
    record("cuda_search", rows, vectors=N, dim=DIM, k=K, bandwidth=bandwidth, matrix_rate=rate)


if __name__ == "__main__":
    main()
