"""Labels are labels: any integers, columns only for those that occur."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyhue

LABELS = st.one_of(st.integers(-3, 5), st.integers(-(2**63), 2**63 - 1))


def _memory(labels, seed=0, pixels=3):
    memory = pyhue.PixelMemory(6)
    memory.add(_images(len(labels), seed, pixels), labels)
    return memory


def _images(count, seed=0, pixels=3):
    return np.random.default_rng(seed).standard_normal((count, pixels, 6))


@given(batches=st.lists(st.lists(LABELS, max_size=5), min_size=1, max_size=4))
def test_any_integers(tmp_path_factory, batches):
    memory = pyhue.PixelMemory(6)
    for seed, labels in enumerate(batches):
        memory.add(_images(len(labels), seed), np.array(labels, np.int64))
    every = np.array([label for labels in batches for label in labels], np.int64)
    classes, counts = np.unique(every, return_counts=True)
    path = tmp_path_factory.mktemp("labels") / "memory.safetensors"
    memory.save(path)
    for each in (memory, pyhue.PixelMemory.load(path)):
        assert each.classes.tolist() == classes.tolist()
        assert each.class_counts.tolist() == (3 * counts).tolist()
        assert each.num_classes == len(classes)
        assert each.labels[::3].tolist() == every.tolist()
        if len(every):
            images = np.concatenate([_images(len(labels), seed) for seed, labels in enumerate(batches)])
            assert each.predict(images, k=1).tolist() == every.tolist()


def test_columns_are_those_of_any_other_names_in_the_same_order():
    names, queries = np.array([-(2**62), -1, 2**31 - 1, 2**40]), _images(5, 9)
    plain, named = (_memory(labels) for labels in (np.arange(12) % 4, names[np.arange(12) % 4]))
    np.testing.assert_array_equal(named.log_likelihood(queries), plain.log_likelihood(queries))
    np.testing.assert_array_equal(named.predict(queries), names[plain.predict(queries)])
    assert plain.classes.tolist() == [0, 1, 2, 3]


def test_one_large_label_costs_nothing():
    memory = _memory([2**31 - 1, 0])
    assert memory.log_likelihood(_images(2)).shape == (2, 2)
    assert memory.class_counts.nbytes == 16


def test_a_class_between_others_moves_columns_of_later_answers_only():
    memory = _memory([4, 0, 4, 0])
    before, counts = memory.classes, memory.class_counts
    memory.add(_images(2, 1), [2, 2])
    assert before.tolist() == [0, 4]
    assert counts.tolist() == [6, 6]
    assert memory.classes.tolist() == [0, 2, 4]
    assert memory.predict(_images(4), k=1).tolist() == [4, 0, 4, 0]
    assert memory.predict(_images(2, 1), k=1).tolist() == [2, 2]


@pytest.mark.parametrize("names", [[0, 1, 2], [-5, 3, 2**40]])
def test_on_a_gpu(gpu, names):
    from gpu import moved

    torch = pytest.importorskip("torch")
    names = np.array(names)
    cpu, memory = _memory(names[np.arange(9) % 2 * 2]), moved(_memory(names[np.arange(9) % 2 * 2]), gpu)
    queries = torch.from_numpy(_images(5, 3)).to(gpu.device)
    for added in (0, 4):
        for each in (cpu, memory):
            each.add(_images(added, 2), np.full(added, names[1]))
        found, expected = memory.log_likelihood(queries), cpu.log_likelihood(queries.cpu())
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-13, atol=0)
        predicted = memory.predict(queries)
        assert predicted.device.type == gpu.device.type
        assert predicted.tolist() == cpu.predict(queries.cpu()).tolist()


def test_a_layer_counts_them():
    torch = pytest.importorskip("torch")
    nn = pytest.importorskip("pyhue.nn")
    memory = _memory([8, -2, 8, 5])
    layer = nn.MemoryClassifier(memory, k=3)
    maps = torch.from_numpy(_images(3, 4).swapaxes(1, 2).reshape(3, 6, 3, 1).copy())
    np.testing.assert_array_equal(memory.classes[layer(maps).argmax(1).numpy()], memory.predict(maps, k=3))
