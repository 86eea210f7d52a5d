"""Measures of search quality, each with its definition."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from similar_images.index import GalleryIndex
from similar_images.measure import Comparison
from similar_images.vectors import VectorFile, normalise

BLOCK = 4096  # rows that queries are compared with at a time


def recall_at_k(exact: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return which fraction of the true nearest neighbours was found, averaged over queries.

    Whatever is as near as the k-th nearest neighbour counts as one: of several at that distance any will do.

    Args:
        exact: (q, k) float32, the distances of each query to its k true nearest neighbours, in any order.
        found: (q, k') float32, the true distances of the same queries to what was found; inf stands for none.

    Returns:
        The mean over queries of |found within the k-th exact distance| / k: 0 to 1.

    Raises:
        ValueError: the two are not of the same number of queries, or there is nothing to compare.

    Source: Aumueller, Bernhardsson, Faithfull: ANN-Benchmarks (2020), recall by distances.
    """
    if len(exact) != len(found) or exact.size == 0:
        raise ValueError(
            f"exact is {exact.shape} and found {found.shape}: they must be of the same queries, at least one"
        )
    hits = (found <= exact.max(axis=1, keepdims=True)).sum(axis=1)
    return float(np.minimum(hits, exact.shape[1]).sum() / exact.size)


def distances_to_others(
    index: GalleryIndex,
    vectors: VectorFile,
    queries: Sequence[Comparison],
    rows: NDArray[np.int64],
    found: Sequence[NDArray[np.int64]],
    k: int,
) -> NDArray[np.float32]:
    """Return the exact distances of rows of a vectors file to what they found, themselves left out.

    Args:
        index: that of the vectors.
        vectors: where all vectors are.
        queries: (q,) made of the vectors of the rows that asked.
        rows: (q,) which rows these are.
        found: ids that each query found, of any number.
        k: how many of these to take, from the first on.

    Returns:
        (q, k) float32 squared L2 distances; inf where fewer were found.
    """
    distances = np.full((len(rows), k), np.inf, np.float32)
    for line, query, row, ids in zip(distances, queries, rows, found, strict=True):
        others = ids[ids != row][:k]
        line[: len(others)] = index.distances(query, others, vectors)
    return distances


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


def mean_with_interval(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return the mean of values (q,), nan left out, and the ends of its 95 % interval, see `bootstrap_interval`."""
    return float(np.nanmean(values)), *bootstrap_interval(values)


def exact_neighbours(
    queries: NDArray[np.float32],
    chunks: Iterable[tuple[int, NDArray[np.float32]]],
    k: int,
    units: Callable[[NDArray[np.float32]], NDArray[np.float32]] = normalise,
) -> NDArray[np.int64]:
    """Return the k nearest vectors of each query by comparing it to all of them.

    Args:
        queries: (q, d) float32 units.
        chunks: (first row, (c, d) float32 rows) that make up all vectors, of any length; rows of zeros are left out.
        k: how many, at most the number of vectors that are not zero.
        units: gives the units (n, d) of vectors, see `Measure.units`; for the raw cosine they are L2-normalised.

    Returns:
        (q, k) int64 rows, nearest (by the cosine) first.
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for start, block in _blocks(chunks):
        cosines = np.where(block.any(axis=1), queries @ units(block).T, -np.inf)
        best = np.hstack([best, cosines])
        rows = np.hstack([rows, np.broadcast_to(np.arange(start, start + len(block)), cosines.shape)])
        nearest = np.argpartition(-best, k - 1, axis=1)[:, :k]
        best, rows = np.take_along_axis(best, nearest, 1), np.take_along_axis(rows, nearest, 1)
    return np.take_along_axis(rows, np.argsort(-best, axis=1, kind="stable"), 1)


def _blocks(chunks: Iterable[tuple[int, NDArray[np.float32]]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield chunks in smaller parts: what is compared with them takes memory by their rows."""
    for start, chunk in chunks:
        for at in range(0, len(chunk), BLOCK):
            yield start + at, chunk[at : at + BLOCK]
