"""Measures of search quality, each with its definition."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def recall_at_k(exact: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Return which part of the true nearest neighbours was found, averaged over queries.

    Args:
        exact: (q, k) int64, the ids of the k true nearest neighbours of each query, in any order.
        found: (q, k') int64, the ids found for the same queries; -1 stands for none.

    Returns:
        The mean over queries of |exact and found| / k: 0 to 1.

    Raises:
        ValueError: the two are not of the same number of queries, or there is nothing to compare.

    Source: Jegou, Douze, Schmid: Product quantization for nearest neighbor search (2011), for k neighbours.
    """
    if len(exact) != len(found) or exact.size == 0:
        raise ValueError(
            f"exact is {exact.shape} and found {found.shape}: they must be of the same queries, at least one"
        )
    hits = [np.isin(wanted, got).sum() for wanted, got in zip(exact, found, strict=True)]
    return float(np.sum(hits) / exact.size)


def precision_at_k(relevant: NDArray[np.bool_]) -> float:
    """Return which part of the results is relevant, averaged over queries.

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


def exact_neighbours(
    queries: NDArray[np.float32], chunks: Iterable[tuple[int, NDArray[np.float32]]], k: int
) -> NDArray[np.int64]:
    """Return the k nearest vectors of each query by comparing it to all of them.

    Args:
        queries: (q, d) float32 of length 1.
        chunks: (first row, (c, d) float32 rows) that make up all vectors, of any length; rows of zeros are left out.
        k: how many, at most the number of vectors that are not zero.

    Returns:
        (q, k) int64 rows, nearest (by the cosine) first.
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for start, chunk in chunks:
        lengths = np.linalg.norm(chunk, axis=1)
        cosines = np.where(lengths > 0, queries @ chunk.T / np.where(lengths > 0, lengths, 1), -np.inf)
        best = np.hstack([best, cosines])
        rows = np.hstack([rows, np.broadcast_to(np.arange(start, start + len(chunk)), cosines.shape)])
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return rows
