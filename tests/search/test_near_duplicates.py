import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from similar_images.search.near_duplicates import suppress_near_duplicates


def blocks(vectors: np.ndarray, size: int, read: list[int] | None = None) -> Iterator[np.ndarray]:
    for start in range(0, len(vectors), size):
        if read is not None:
            read.append(start)
        yield vectors[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_suppress_near_duplicates_drops_what_is_near_a_better_one(size: int) -> None:
    angles = np.radians([0, 1, 90, 2, 91.5, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert list(suppress_near_duplicates(blocks(vectors, size), 2 - 2 * np.cos(np.radians(1.2)))) == [0, 2, 3, 4, 5]
    assert list(suppress_near_duplicates(blocks(vectors, size), 2 - 2 * np.cos(np.radians(3)))) == [0, 2, 5]


def test_suppress_near_duplicates_of_nothing_is_nothing() -> None:
    assert list(suppress_near_duplicates(iter([]), 0.1)) == []


def test_suppress_near_duplicates_tells_copies_from_what_is_hardly_different() -> None:
    vector = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    vector /= np.linalg.norm(vector)
    other = vector.copy()
    other[0] += np.float32(1e-4)
    assert list(suppress_near_duplicates(blocks(np.stack([vector, vector, other]), 2), 1e-9)) == [0, 2]


def test_suppress_near_duplicates_reads_no_more_than_is_asked_for() -> None:
    vectors = np.eye(100, dtype=np.float32)
    read: list[int] = []
    kept = suppress_near_duplicates(blocks(vectors, 10, read), 0.5)
    assert [next(kept) for _ in range(15)] == list(range(15)) and read == [0, 10]


def test_suppress_near_duplicates_of_many_takes_the_memory_of_few() -> None:
    vectors = np.random.default_rng(0).standard_normal((9600, 64)).astype(np.float32) * 1e-4 + 1
    tracemalloc.start()
    assert len(list(suppress_near_duplicates(blocks(vectors, 64), 0.1))) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000, "a matrix of 9,600 x 9,600 takes 369 MB"
