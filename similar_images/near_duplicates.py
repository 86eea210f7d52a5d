"""Near-duplicates: photos so alike that one of them is enough."""

import numpy as np
from numpy.typing import NDArray


def kept_apart(vectors: NDArray[np.float32], distance: float) -> NDArray[np.intp]:
    """Return which vectors are left when each one near a better one goes.

    Args:
        vectors: (n, d) float32 of length 1, best first.
        distance: squared L2; a vector at most this far from one that is kept before it goes.

    Returns:
        (kept,) their positions, ascending.
    """
    distances = 2 - 2 * vectors @ vectors.T
    kept: list[int] = []
    for position in range(len(vectors)):
        if not (distances[position, kept] <= distance).any():
            kept.append(position)
    return np.array(kept, np.intp)
