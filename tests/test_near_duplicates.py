import numpy as np

from similar_images.near_duplicates import kept_apart


def test_kept_apart_drops_what_is_near_a_better_one() -> None:
    angles = np.radians([0, 1, 90, 2, 91.5, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert kept_apart(vectors, 2 - 2 * np.cos(np.radians(1.2))).tolist() == [0, 2, 3, 4, 5]
    assert kept_apart(vectors, 2 - 2 * np.cos(np.radians(3))).tolist() == [0, 2, 5]


def test_kept_apart_of_nothing_is_nothing() -> None:
    assert kept_apart(np.zeros((0, 4), np.float32), 0.1).tolist() == []
