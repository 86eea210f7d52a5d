"""Near-duplicates: photos so alike that one of them is enough."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


def kept_apart(blocks: Iterable[NDArray[np.float32]], distance: float) -> Iterator[int]:
    """Yield which vectors are kept by greedy near-duplicate suppression, reading no more of them than is asked for.

    Args:
        blocks: (b, d) float32 each, together all vectors, best first.
        distance: squared L2; a vector at most this far from one that is kept before it goes.

    Yields:
        Their positions, ascending.
    """
    kept: list[NDArray[np.float64]] = []
    start = 0
    for block in blocks:
        vectors = block.astype(np.float64)
        is_near = _squared_distances(vectors, vectors) <= distance
        goes = np.zeros(len(vectors), np.bool_)
        for others in kept:
            goes |= (_squared_distances(vectors, others) <= distance).any(axis=1)
        stays: list[int] = []
        for position in np.flatnonzero(~goes).tolist():
            if not is_near[position, stays].any():
                stays.append(position)
                yield start + position
        kept.append(vectors[stays])
        start += len(block)


def _squared_distances(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.vecdot(some, some)[:, None] + np.vecdot(others, others) - 2 * (some @ others.T)
    return squares
