"""The CUDA kernels as tests call them: emulated on the CPU, or on a GPU. Both have the same methods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pyhue._cuda.pieces import Place, make_piece
from pyhue._rows import vector_rows
from pyhue._search.plan import mean
from pyhue._search.selection import EVERYTHING, Selection

REDUCTIONS = ("none", "mean", "sum")


def kernels(where: str) -> Emulated | OnGpu:
    """Those of "emulated" or "gpu"; skips the test where these do not run."""
    if where == "emulated":
        return Emulated()
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return OnGpu()


class Emulated:
    """The kernels of `csrc/emulation`; outputs begin as garbage."""

    exact = True  # special functions, too

    def __init__(self) -> None:
        self.module: Any = pytest.importorskip(
            "pyhue._emulation", reason="pyhue was built without PYHUE_EMULATION"
        )
        self.store_rows, self.density = self.module.store_rows, self.module.density

    def search(self, memory, queries, k, cuts=(), backwards=False, **selected):
        """Distances and indices; of a memory cut into pieces, the last one first if `backwards`.

        `selected`: where and exclude, of a memory that hides nothing.
        """
        rows = vector_rows(queries, "queries", memory.normalize)
        stored = memory._newest()
        return self.search_rows(stored, mean(stored), rows, k, cuts, backwards, **selected)

    def search_rows(self, stored, center, rows, k, cuts=(), backwards=False, **selected):
        """The same of rows that are not looked at, which may hold NaN."""
        chosen = _chosen(stored, **selected)
        return self.module.search(stored.array, center, rows, k, cuts, backwards, *chosen)

    def within(self, memory, queries, radius, cuts=(), **selected):
        """Limits, distances and indices."""
        rows, stored = vector_rows(queries, "queries", memory.normalize), memory._newest()
        chosen = _chosen(stored, **selected)
        counts, keys = self.module.search_within(stored.array, mean(stored), rows, radius, cuts, *chosen)
        limits = np.concatenate(([0], np.cumsum(counts)))
        keys = np.concatenate([np.sort(part) for part in np.split(keys, limits[1:-1])])
        return limits, (keys >> 32).astype(np.uint32).view(np.float32), keys & 0xFFFFFFFF

    def hue_cross_entropy(self, input, hue, target, labels, weight, row_weight, options, gradients):
        """The loss; gradients of input, hue, labels, and a target of probabilities; what is asked of rows."""
        import torch

        def bits(tensor):
            if tensor is None:
                return None
            return (tensor.view(torch.int16) if tensor.element_size() == 2 else tensor).detach().numpy()

        types = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # ElementType
        shape = input.shape[:1] if options["reduction"] == "none" else ()
        loss = torch.full(shape, math.nan, dtype=hue.dtype)
        wanted = [input, hue, labels, target] if target.is_floating_point() else [input, hue, labels]
        grads = [torch.full_like(t, math.nan) for t in wanted] if gradients else []
        if gradients == "in place":
            grads[0] = input = input.clone()
        of_rows = []
        if options["of_rows"]:
            of_rows = [
                loss.new_full(input.shape[:1], math.nan),
                torch.ones(input.shape[:1], dtype=torch.bool),
            ]
        self.module.hue_cross_entropy(
            types.index(input.dtype),
            bits(input),
            bits(hue),
            *((None, bits(target)) if target.is_floating_point() else (bits(target), None)),
            *(bits(tensor) for tensor in (labels, weight, row_weight)),
            *_scalars(options),
            *(bits(tensor) for tensor in (loss, *grads, *[None] * (4 - len(grads)))),
            *(bits(tensor) for tensor in of_rows or (None, None)),
        )
        return loss, *grads, *of_rows


class OnGpu:
    """The kernels behind torch's operators; NumPy arrays and CPU tensors in and out."""

    exact = False

    def __init__(self) -> None:
        import torch

        from pyhue._cuda.operators import operators

        self.device = torch.device("cuda")
        self.ops = operators(self.device)

    def _poison(self) -> None:
        """What is allocated next begins as NaN, mostly: torch gives memory that was freed."""
        import torch

        some = [torch.full((size,), math.nan, device=self.device) for size in (100, 3000, 200_000, 8_000_000)]
        del some

    def _there(self, value):
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        return None if tensor is None else tensor.to(self.device)

    def search(self, memory, queries, k, cuts=(), backwards=False, **selected):
        rows = vector_rows(queries, "queries", memory.normalize)
        stored = memory._newest()
        return self.search_rows(stored, mean(stored), rows, k, cuts, backwards, **selected)

    def search_rows(self, stored, center, rows, k, cuts=(), backwards=False, **selected):
        index = self._index(stored, center, cuts, backwards)
        chosen = index.chosen(stored, selection_of(**selected))
        return tuple(found.cpu().numpy() for found in index.search(self._there(rows), k, chosen))

    def within(self, memory, queries, radius, cuts=(), **selected):
        rows, stored = vector_rows(queries, "queries", memory.normalize), memory._newest()
        index = self._index(stored, mean(stored), cuts, False)
        chosen = index.chosen(stored, selection_of(**selected))
        counts, *found = (part.cpu().numpy() for part in index.within(self._there(rows), radius, chosen))
        return np.concatenate(([0], np.cumsum(counts))), *found

    def _index(self, stored, center, cuts, backwards):
        from pyhue._cuda.index import DeviceIndex

        self._poison()
        index = DeviceIndex(stored.dim, self.device, self.ops)
        index._center, begin = self._there(center), 0
        for end in (*cuts, len(stored)):
            index._pieces.append(make_piece(stored, begin, end - begin, Place.GPU, index._center, self.ops))
            begin = end
        if backwards:
            index._pieces.reverse()
        return index

    def store_rows(self, rows, normalize):
        self._poison()
        return self.ops.store_rows(self._there(rows), normalize).cpu().numpy()

    def density(self, distances, labels, class_counts, eps):
        self._poison()
        arrays = (self._there(array) for array in (distances, labels, class_counts))
        return self.ops.density(*arrays, eps).cpu().numpy()

    def hue_cross_entropy(self, input, hue, target, labels, weight, row_weight, options, gradients):
        self._poison()
        there = [_placed(t, self.device) for t in (input, hue, target, labels, weight, row_weight)]
        scalars, of_rows = _scalars(options), 24 if options["of_rows"] else 0
        if gradients == "in place":
            assert options["reduction"] == "sum"
            there[0] = there[0].clone()
            loss, grad_hue, *_ = self.ops.hue_cross_entropy_(*there, *scalars[:3], *scalars[4:], 0)
            return loss.cpu(), there[0].cpu(), grad_hue.cpu()
        wanted = of_rows + (0 if not gradients else 7 if target.is_floating_point() else 3)
        found = self.ops.hue_cross_entropy(*there, *scalars, wanted)
        return tuple(tensor.cpu() for tensor in found)


def selection_of(where=None, exclude=None):
    """What `Selection` calls it."""
    return EVERYTHING if where is None and exclude is None else Selection(where, None, exclude)


def _chosen(stored, where=None, exclude=None):
    """Bits, groups and excluded groups."""
    left_out = None if where is None else np.packbits(~where, bitorder="little")
    return (left_out, None, None) if exclude is None else (left_out, stored.groups, exclude)


def _scalars(options):
    """As the operators take them."""
    names = ("hue_weight", "hue_scale", "ignore_index", "reduction", "label_smoothing", "lse_square_scale")
    values = [REDUCTIONS.index(options[name]) if name == "reduction" else options[name] for name in names]
    return [*values, options["softcap"] or 0.0]


def _placed(tensor, device):
    """A copy there that lies as many elements after an aligned address as the tensor does here."""
    if tensor is None:
        return None
    offset = tensor.data_ptr() % 16 // tensor.element_size()
    memory = tensor.new_empty(tensor.numel() + offset, device=device)
    memory[offset:] = tensor.flatten()
    return memory[offset:].view(tensor.shape)
