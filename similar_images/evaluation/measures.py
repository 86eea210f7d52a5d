"""Measures of retrieval quality, each with its definition."""

import numpy as np
from numpy.typing import NDArray


def precision_at_k(relevant: NDArray[np.bool_]) -> float:
    """Return the fraction of results that is relevant, averaged over queries.

    Args:
        relevant: (q, k) bool, whether each of the k results of each query is relevant to it.

    Returns:
        The mean over queries and results: 0 to 1.

    Raises:
        ValueError: there is no result.

    Source: Manning, Raghavan, Schuetze: Introduction to Information Retrieval (2008), chapter 8.
    """
    if relevant.size == 0:
        raise ValueError("there are no results to judge")
    return float(relevant.mean())


def average_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each query: the mean of the precision at the rank of each relevant result.

    Args:
        relevant: (q, n) bool, whether each result of the whole ranking of each query is relevant, nearest first.

    Returns:
        (q,) float64, 0 to 1; nan for a query to which nothing is relevant. Their mean is the mean average precision.

    Source: Manning, Raghavan, Schuetze: Introduction to Information Retrieval (2008), chapter 8.4.
    """
    precisions = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    counts = relevant.sum(axis=1)
    return np.where(counts, (precisions * relevant).sum(axis=1) / np.maximum(counts, 1), np.nan)


def r_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the R-precision of each query: the precision of its first R results, R being all that are relevant.

    Args:
        relevant: (q, n) bool, see `average_precision`.

    Returns:
        (q,) float64, 0 to 1; nan for a query to which nothing is relevant.

    Source: Manning, Raghavan, Schuetze: Introduction to Information Retrieval (2008), chapter 8.4.
    """
    counts = relevant.sum(axis=1)
    among_first = np.arange(relevant.shape[1]) < counts[:, None]
    return np.where(counts, (relevant & among_first).sum(axis=1) / np.maximum(counts, 1), np.nan)


def n_s_score(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how many of an object's four photos are among the first four results, the query being one of both.

    Args:
        relevant: (q, n) bool, which results show the query's object; results are all other photos, in their order.

    Returns:
        (q,) float64, 1 to 4; nan for a query whose object has not four photos. Their mean is the score.

    Source: Nister, Stewenius: Scalable Recognition with a Vocabulary Tree (2006).
    """
    return np.where(relevant.sum(axis=1) == 3, 1 + relevant[:, :3].sum(axis=1), np.nan)


def bootstrap_interval(values: NDArray[np.floating], level: float = 0.95, draws: int = 1000) -> tuple[float, float]:
    """Return the interval that a mean lies in, by drawing as many values again and again, with a seed.

    Args:
        values: (q,) one of each query; nan are left out.
        level: the part of all draws whose means lie inside.
        draws: how many.

    Returns:
        Lower and upper end; nan for no values.

    Source: Efron: Bootstrap Methods (1979), percentile intervals.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    random = np.random.default_rng(0)
    means = [known[random.integers(0, len(known), len(known))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_with_interval(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return the mean of values (q,), nan left out, and the ends of its 95 % interval, see `bootstrap_interval`."""
    return float(np.nanmean(values)), *bootstrap_interval(values)
