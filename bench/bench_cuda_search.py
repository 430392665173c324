"""Exact search on a GPU against torch's bfloat16 matmul and topk: python bench/bench_cuda_search.py."""

from __future__ import annotations

import torch
from cuda_timing import copy_bandwidth, matrix_rate, medians, record
from torch import Tensor

from pyhue._device_index import operators

N, DIM, K = 4_000_000, 1280, 10
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


def main() -> None:
    """Measures 49, 490 and 4,900 queries."""
    ops = operators(torch.device("cuda"))
    torch.manual_seed(0)
    vectors = torch.empty(N, DIM, dtype=torch.bfloat16, device="cuda")
    for part in vectors.split(100_000):
        part.copy_(torch.nn.functional.normalize(torch.randn(len(part), DIM, device="cuda").relu()))
    center = vectors[:100_000].double().mean(0)
    packed = (vectors, *ops.pack_vectors(vectors, center), center)
    bandwidth, rate = copy_bandwidth(), matrix_rate()
    rows = []
    for count in (49, 490, 4900):
        queries = torch.nn.functional.normalize(torch.randn(count, DIM, device="cuda").relu())
        narrow = queries.bfloat16()
        found, indices = ops.search_vectors(*packed, queries, K)
        for q in range(3):  # against float64 over the whole memory
            exact = torch.cat(
                [(part.double() - queries[q].double()).square().sum(1) for part in vectors.split(200_000)]
            )
            torch.testing.assert_close(
                found[q].double(), exact.topk(K, largest=False).values, rtol=1e-5, atol=0
            )
            torch.testing.assert_close(exact[indices[q]], found[q].double(), rtol=1e-5, atol=0)
        functions = {"pyhue": lambda queries=queries: ops.search_vectors(*packed, queries, K)}
        for tile in TILES:
            functions[f"torch {tile}"] = lambda narrow=narrow, tile=tile: rival(vectors, narrow, K, tile)
        times = medians(functions, repeats=7)
        floor = max(vectors.nbytes / bandwidth, 2 * N * DIM * count / rate) * 1e3
        torch_ms = min(ms for name, ms in times.items() if name != "pyhue")
        rows.append(
            {
                "queries": count,
                "pyhue ms": times["pyhue"],
                "floor ms": floor,
                "of floor": floor / times["pyhue"],
            }
            | {"torch ms": torch_ms, "faster": torch_ms / times["pyhue"]}
        )
    record("cuda_search", rows, vectors=N, dim=DIM, k=K, bandwidth=bandwidth, matrix_rate=rate)


if __name__ == "__main__":
    main()
