"""Colour histograms: the baseline of any encoder."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from similar_images.photos.images import ImageReadError, read_resized
from similar_images.store.vectors import normalise

CELLS = 3  # each way
CELL = 32  # pixels, each way
LEVELS = 4  # of red, of green and of blue


def colour_histograms(photos: Sequence[Path]) -> NDArray[np.float32]:
    """Return square roots of colour histograms of 3 x 3 cells of 64 colours, L2-normalised.

    Args:
        photos: (n,) their paths.

    Returns:
        (n, 576) float32; rows of photos that can't be read are zero.
    """
    with ThreadPoolExecutor() as pool:
        return normalise(np.sqrt(list(pool.map(_histogram, photos))))


def _histogram(photo: Path) -> NDArray[np.int64]:
    """Return how often each colour is in each cell of a photo, (576,)."""
    try:
        levels = read_resized(photo, (CELLS * CELL, CELLS * CELL)) // (256 // LEVELS)
    except ImageReadError:
        return np.zeros(CELLS**2 * LEVELS**3, np.int64)
    colours = levels @ np.array([LEVELS**2, LEVELS, 1])
    cells = colours.reshape(CELLS, CELL, CELLS, CELL).swapaxes(1, 2).reshape(CELLS**2, -1)
    return np.concatenate([np.bincount(cell, minlength=LEVELS**3) for cell in cells])
