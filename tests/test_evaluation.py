import faiss
import numpy as np
import pytest

from similar_images.evaluation import (
    average_precision,
    bootstrap_interval,
    exact_neighbours,
    n_s_score,
    precision_at_k,
    r_precision,
    recall_at_k,
)


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


def test_average_and_r_precision_by_hand() -> None:
    relevant = np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    np.testing.assert_allclose(average_precision(relevant), [(1 + 2 / 3) / 2, 1 / 4, np.nan])
    np.testing.assert_allclose(r_precision(relevant), [1 / 2, 0, np.nan])


def test_average_precision_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    relevant = random.random((20, 50)) < 0.2
    scores = -np.arange(50.0)
    expected = [average_precision_score(line, scores) for line in relevant]
    np.testing.assert_allclose(average_precision(relevant), expected)


def test_recall_is_the_intersection_measure_of_faiss() -> None:
    from faiss.contrib.evaluation import knn_intersection_measure

    random = np.random.default_rng(0)
    exact, found = (np.array([random.permutation(30)[:10] for _ in range(15)]) for _ in range(2))
    assert recall_at_k(exact, found) == pytest.approx(knn_intersection_measure(exact, found))


def test_n_s_score_counts_the_object_among_the_first_four() -> None:
    relevant = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]], bool)
    np.testing.assert_array_equal(n_s_score(relevant), [4, 2, 2, np.nan])


def test_bootstrap_interval_is_about_two_standard_errors() -> None:
    values = (np.random.default_rng(1).random(400) < 0.8).astype(float)
    low, high = bootstrap_interval(np.append(values, np.nan))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=error / 3)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=error / 3)
    assert (low, high) == bootstrap_interval(values)
    assert np.isnan(bootstrap_interval(np.array([np.nan]))).all()
