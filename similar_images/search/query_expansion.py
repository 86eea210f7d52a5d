"""Query expansion: a query moved towards its first hits."""

import numpy as np
from numpy.typing import NDArray

POWER = 3


def expanded(
    unit: NDArray[np.float32], hits: NDArray[np.float32], similarities: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return a query's unit vector moved towards its first hits, each weighted by the cube of its similarity.

    Args:
        unit: (d,) float32 of length 1, not modified.
        hits: (h, d) float32 of length 1.
        similarities: (h,) of the hits to the query; those below 0 count as 0.

    Returns:
        (d,) float32 of any length.

    Source: Chum et al.: Total Recall (2007); Radenovic, Tolias, Chum: Fine-tuning CNN Image Retrieval (2018), for the
        power.
    """
    weights = np.maximum(similarities, 0).astype(np.float32) ** POWER
    return np.asarray(unit + weights @ hits, np.float32)
