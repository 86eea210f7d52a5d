import numpy as np
import pytest

from similar_images.evaluation.measures import (
    average_precision,
    bootstrap_interval,
    n_s_score,
    precision_at_k,
    r_precision,
)


def test_precision_at_k_is_the_share_of_relevant_results() -> None:
    assert precision_at_k(np.array([[True, False], [True, True]])) == 0.75
    with pytest.raises(ValueError, match="no results"):
        precision_at_k(np.empty((0, 2), np.bool_))


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
