"""Exact search: every vector is compared; what an index finds is measured against it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from similar_images.store.vectors import normalise

Asking = TypeVar("Asking")

BLOCK = 4096  # rows that queries are compared with at a time


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


def distances_to_others(
    distances_of: Callable[[Asking, NDArray[np.int64]], NDArray[np.float32]],
    queries: Sequence[Asking],
    rows: NDArray[np.int64],
    found: Sequence[NDArray[np.int64]],
    k: int,
) -> NDArray[np.float32]:
    """Return the exact distances of rows to what they found, themselves left out.

    Args:
        distances_of: gives those of a query to ids.
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
        line[: len(others)] = distances_of(query, others)
    return distances


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
