"""Groups of near-duplicates in a gallery: photos so alike that counting them all flatters any measure."""

import numpy as np
from numpy.typing import NDArray

from similar_images.search.gallery import Gallery


def near_pairs(gallery: Gallery, distance: float, k: int = 20) -> NDArray[np.int64]:
    """Return the pairs (p, 2) int64 of rows that lie within a distance of each other, without a focus.

    Args:
        gallery: the photos.
        distance: see `measure`.
        k: how many neighbours of each photo to look at.
    """
    found = [(row, hit) for row in gallery.searchable_rows().tolist() for hit in gallery.search(row, k + 1, focus=0)]
    pairs = [(row, hit.image_id) for row, hit in found if hit.image_id != row and hit.distance <= distance]
    return np.array(pairs, np.int64).reshape(-1, 2)


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
