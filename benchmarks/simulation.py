"""Seeded galleries of any size that look like real vectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK = 4000


def simulated(real: NDArray[np.float32], n: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Yield n vectors in chunks: weighted means of pairs of real ones, slightly disturbed, with their zeros kept.

    The covariance of such means is that of the real vectors, scaled, so the spectrum stays; neighbours are as near as
    points between the same real ones are.

    Args:
        real: (r, d) float32, not modified.
        n: how many.
        seed: of all choices.
    """
    random = np.random.default_rng(seed)
    noise = 0.1 * float(real[real > 0].mean())
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        one, other = real[random.integers(0, len(real), size)], real[random.integers(0, len(real), size)]
        weight = random.random((size, 1), np.float32)
        mixed = weight * one + (1 - weight) * other
        mixed += noise * random.standard_normal(mixed.shape, np.float32) * (mixed > 0)
        yield np.maximum(mixed, 0)


def write_simulated(real: NDArray[np.float32], n: int, file: Path, seed: int = 0) -> None:
    """Write n simulated vectors as a vectors file without a card."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (n, real.shape[1])}
    with open(file, "wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for chunk in simulated(real, n, seed):
            out.write(chunk.tobytes())
