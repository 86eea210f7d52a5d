"""Groups of near-duplicates in a gallery: photos so alike that counting them all flatters any measure."""

import numpy as np
from numpy.typing import NDArray

from similar_images.gallery import Gallery

FLOOR = 1e-3  # a squared distance that rounding and re-compression easily make


def gap_threshold(nearest: NDArray[np.float32]) -> float:
    """Return the distance below which photos are near-duplicates, from the gap in the distances to nearest neighbours.

    Near-duplicates are much nearer to each other than other photos ever are: between the two there is a gap. It is
    looked for below half of the median, on a logarithmic scale; distances below `FLOOR` count as that.

    Args:
        nearest: (n,) float32, the distance of each photo to its nearest other photo.

    Returns:
        The middle of the widest gap; `FLOOR` where all photos are far from each other.
    """
    half = float(np.median(nearest)) / 2
    known = np.unique(np.maximum(nearest, FLOOR))
    low = np.append(np.append(FLOOR, known[known < half]), max(half, FLOOR))
    widest = int(np.argmax(np.diff(np.log(low))))
    return float(np.sqrt(low[widest] * low[widest + 1])) if len(low) > 2 else FLOOR


def near_pairs(gallery: Gallery, k: int = 20) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return how near the photos of a gallery are to each other.

    Args:
        gallery: the photos.
        k: how many neighbours of each photo to look at.

    Returns:
        The distance (n,) float32 of each photo to its nearest other one, without a focus, pairs (p, 2) int64 of rows
        and their distances (p,) float32, each photo with its k nearest.
    """
    rows = gallery.searchable_rows()
    hits = [[hit for hit in gallery.search(int(row), k + 1, focus=0) if hit.image_id != row][:k] for row in rows]
    nearest = np.array([found[0].distance for found in hits if found], np.float32)
    pairs = [(int(row), hit.image_id) for row, found in zip(rows, hits, strict=True) for hit in found]
    distances = np.array([hit.distance for found in hits for hit in found], np.float32)
    return nearest, np.array(pairs, np.int64).reshape(-1, 2), distances


def groups(pairs: NDArray[np.int64], n: int) -> list[list[int]]:
    """Return the groups that pairs of alike photos make.

    Args:
        pairs: (p, 2) int64 rows.
        n: how many photos there are.

    Returns:
        Groups of two rows or more, the largest first; photos are in one group where pairs lead from one to the other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n))
    _, numbers = connected_components(graph, directed=False)
    order = np.argsort(numbers, kind="stable")
    found = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return sorted((group.tolist() for group in found if len(group) > 1), key=len, reverse=True)
