"""Relevance feedback: a query moved by the hits that a person marked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from similar_images.search.gallery import Gallery

RELEVANT_WEIGHT = 1.0
IRRELEVANT_WEIGHT = 0.3  # with more, a single irrelevant mark makes results worse, see benchmarks/feedback.py


def refined(
    gallery: Gallery, query: object, relevant: Sequence[int] = (), irrelevant: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Return the vector to search with after some photos of a gallery were marked.

    Args:
        gallery: the photos.
        query: one or several, see `Gallery.search`.
        relevant: rows of photos to find more of; their stored vectors are used. Photos that were removed don't count.
        irrelevant: rows of photos to find fewer of; likewise.

    Returns:
        (d,) float32.

    Raises:
        GalleryError, ImageReadError: see `Gallery.search`.
    """
    vector = gallery.vector(query)
    if not (relevant or irrelevant):
        return vector
    unit = gallery.measure.units(vector[None])[0]
    marked = (gallery.units(rows) for rows in (relevant, irrelevant))
    moved = rocchio(unit, *(units[units.any(axis=1)] for units in marked))
    return np.asarray(gallery.measure.vectors_of(moved[None])[0])


def rocchio(
    query: NDArray[np.float32], relevant: NDArray[np.float32], irrelevant: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a query moved towards what was marked as relevant and away from what was marked as irrelevant.

    Args:
        query: (d,) float32 of length 1.
        relevant: (r, d) float32 of length 1, r may be 0.
        irrelevant: (i, d) likewise.

    Returns:
        (d,) float32: query + mean of relevant - 0.3 * mean of irrelevant.

    Source: Manning, Raghavan, Schuetze: Introduction to Information Retrieval (2008), chapter 9.1.1.
    """
    moved = query.copy()
    if len(relevant):
        moved += RELEVANT_WEIGHT * relevant.mean(axis=0)
    if len(irrelevant):
        moved -= IRRELEVANT_WEIGHT * irrelevant.mean(axis=0)
    return moved
