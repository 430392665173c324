"""Answers of parts of a memory, as one."""

import numpy as np

from pyhue._search.merge import merged_nearest, merged_within


def test_the_nearest_of_all_parts():
    inf = np.inf
    parts = [
        (
            np.float32([[1, 2, inf], [inf, inf, inf]]),
            np.array([[5, 9, 8], [-1, -1, -1]]),
            np.array([[1, 2, 3], [0, 0, 0]]),
        ),
        (np.float32([[1, 3], [0, inf]]), np.array([[4, 1], [2, -1]]), np.array([[4, 5], [6, 0]])),
        (np.empty((2, 0), np.float32), np.empty((2, 0), int), np.empty((2, 0), int)),
    ]
    distances, indices, others = merged_nearest(parts, 6)
    np.testing.assert_array_equal(
        distances, np.float32([[1, 1, 2, 3, inf, inf], [0, inf, inf, inf, inf, inf]])
    )
    np.testing.assert_array_equal(indices, [[4, 5, 9, 1, 8, -1], [2, -1, -1, -1, -1, -1]])
    np.testing.assert_array_equal(others, [[4, 1, 2, 5, 3, 0], [6, 0, 0, 0, 0, 0]])
    assert distances.dtype == np.float32
    distances, indices, _ = merged_nearest(parts, 2)
    np.testing.assert_array_equal(indices, [[4, 5], [2, -1]])
    # an infinite distance is one: its row comes before there is none
    swapped = (np.float32([[inf]]), np.array([[-1]])), (np.float32([[inf]]), np.array([[7]]))
    assert merged_nearest(swapped, 2)[1].tolist() == [[7, -1]]


def test_all_within_a_radius():
    one = np.array([0, 2, 2]), np.float32([1, 3]), np.array([4, 0])
    other = np.array([0, 2, 3]), np.float32([1, 2, 0]), np.array([3, 9, 7])
    limits, distances, indices = merged_within([one, other])
    assert limits.tolist() == [0, 4, 5]
    assert distances.tolist() == [1, 1, 2, 3, 0]
    assert indices.tolist() == [3, 4, 9, 0, 7]
