"""Folders searched on a GPU, and with the emulated kernels."""

import numpy as np
import pytest
from families import draw
from gpu import moved

import pyhue

pytest.importorskip("torch")
pytest.importorskip("pyhue.nn")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_opened_folder(gpu, tmp_path, dtype):
    """Of several segments, while it grows, loses vectors and is compacted."""
    memory, queries = pyhue.PixelMemory(24, dtype=dtype), draw("relu60", 9, 24, 5)
    memory.save(tmp_path / "memory")
    writer = moved(pyhue.PixelMemory.open(tmp_path / "memory", "a"), gpu)
    reader = moved(pyhue.PixelMemory.open(tmp_path / "memory"), gpu)
    for turn in range(4):
        maps = draw("relu60", 60, 24, turn).reshape(10, 6, 24).copy()
        maps[::3, 0] = 0  # vectors without a direction
        for each in (memory, writer):
            each.add(maps, np.arange(10) % 3)
        writer.flush()
        if turn == 2:
            for each in (memory, writer):
                each.remove(images=[3, 11])
            for _ in range(2):
                for one, other in zip(writer.search(queries, 12), memory.search(queries, 12), strict=True):
                    np.testing.assert_array_equal(one, other)
                np.testing.assert_allclose(
                    writer.log_likelihood(maps), memory.log_likelihood(maps), rtol=1e-13
                )
                for each in (memory, writer):
                    each.compact()
        assert reader.refresh()
        for found in (writer, reader):
            for one, other in zip(found.search(queries, 12), memory.search(queries, 12), strict=True):
                np.testing.assert_array_equal(one, other)
            np.testing.assert_allclose(found.log_likelihood(maps), memory.log_likelihood(maps), rtol=1e-13)
            for one, other in zip(found.within(queries, 0.4), memory.within(queries, 0.4), strict=True):
                np.testing.assert_array_equal(one, other)
    writer.close()
