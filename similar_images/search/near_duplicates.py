"""Near-duplicates: photos so alike that one of them is enough."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


def suppress_near_duplicates(blocks: Iterable[NDArray[np.float32]], distance: float) -> Iterator[int]:
    """Yield which vectors greedy near-duplicate suppression keeps, reading no more of them than needed.

    Args:
        blocks: (b, d) float32 each, together all vectors, best first.
        distance: squared L2; a vector at most this far from one that was kept is suppressed.

    Yields:
        Their positions, ascending.
    """
    kept: list[NDArray[np.float64]] = []
    start = 0
    for block in blocks:
        vectors = block.astype(np.float64)
        is_near = _squared_distances(vectors, vectors) <= distance
        suppressed = np.zeros(len(vectors), np.bool_)
        for others in kept:
            suppressed |= (_squared_distances(vectors, others) <= distance).any(axis=1)
        kept_here: list[int] = []
        for position in np.flatnonzero(~suppressed).tolist():
            if not is_near[position, kept_here].any():
                kept_here.append(position)
                yield start + position
        kept.append(vectors[kept_here])
        start += len(block)


def _squared_distances(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.vecdot(some, some)[:, None] + np.vecdot(others, others) - 2 * (some @ others.T)
    return squares
