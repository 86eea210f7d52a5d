import faiss
import numpy as np
import pytest

from similar_images.evaluation import exact_neighbours, precision_at_k, recall_at_k


def test_recall_at_k_counts_common_neighbours() -> None:
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 9, -1], [5, 6, 7, 8]])
    assert recall_at_k(exact, found) == (0.5 + 1) / 2


def test_recall_at_k_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        recall_at_k(np.empty((0, 3), np.int64), np.empty((0, 3), np.int64))


def test_precision_at_k_is_the_share_of_relevant_results() -> None:
    assert precision_at_k(np.array([[True, False], [True, True]])) == 0.75
    with pytest.raises(ValueError, match="no results"):
        precision_at_k(np.empty((0, 2), np.bool_))


def test_exact_neighbours_in_chunks_equals_faiss() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 32), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, expected = faiss.knn(unit[:20], unit, 7)
    chunks = [(start, vectors[start : start + 130]) for start in range(0, 500, 130)]
    assert np.array_equal(exact_neighbours(unit[:20], chunks, 7), expected)


def test_exact_neighbours_leaves_out_rows_of_zeros() -> None:
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    assert exact_neighbours(np.array([[1, 0]], np.float32), [(0, vectors)], 2).tolist() == [[1, 2]]
