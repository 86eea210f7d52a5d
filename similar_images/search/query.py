"""The kinds of queries."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.photos.images import Source
from similar_images.search.errors import GalleryError


@dataclass(frozen=True)
class Row:
    """A photo of the gallery.

    Attributes:
        row: which one.
    """

    row: int


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo to encode.

    Attributes:
        source: see `images.read_image`.
        find: whether to detect and search for the photo in it, see `Gallery.photo_in`.
    """

    source: Source
    find: bool = False


@dataclass(frozen=True, eq=False)
class Vector:
    """A feature vector.

    Attributes:
        values: (d,) numbers, not all zero.
    """

    values: NDArray[np.generic]


Query = Row | Photo | Vector


def as_query(thing: object, row_of: Callable[[str], int | None], find: bool = True) -> Query:
    """Guess what a person means; never for a query that came from somebody else.

    Args:
        thing: a query; the number of a row; the name of a photo of the gallery, its path, or that of any photo; an
            address; the bytes of a photo; a PIL image or pixels (h, w, 3) uint8 RGB; or a vector (d,).
        row_of: gives the row of a name or path, None where the gallery has no such photo.
        find: whether to detect and search for the photo in a path, an address or bytes.

    Raises:
        GalleryError: it is none of these.
    """
    match thing:
        case Row() | Photo() | Vector():
            return thing
        case int() | np.integer() if not isinstance(thing, bool):
            return Row(int(thing))
        case str() | os.PathLike():
            row = row_of(os.fspath(thing))
            return Photo(thing, find) if row is None else Row(row)
        case bytes():
            return Photo(thing, find)
        case Image.Image():
            return Photo(thing)
        case np.ndarray() if thing.ndim == 1:
            return Vector(thing)
        case np.ndarray():
            return Photo(Image.fromarray(_rgb(thing)))
    raise GalleryError(
        f"{thing!r} is no query: give a row number or name of the gallery, the path, address or bytes of a photo, a "
        "PIL image, pixels, a vector, or several of these"
    )


def _rgb(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise GalleryError(f"pixels must be (h, w, 3) uint8 RGB, not {pixels.shape} {pixels.dtype}; a vector is (d,)")
    return np.asarray(pixels, np.uint8)
