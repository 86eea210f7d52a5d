"""Photos as small JPEGs, or why there is none."""

from collections.abc import Callable

from similar_images.photos.images import ImageReadError, Source, thumbnail


def picture(photo: Source, side: int, read: Callable[..., bytes] = thumbnail) -> tuple[bytes, str]:
    """Return what `read` makes of a photo and "", or nothing and the reason why there is none."""
    try:
        return read(photo, side), ""
    except ImageReadError as error:
        return b"", error.reason
