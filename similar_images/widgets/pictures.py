"""Photos as small JPEGs, or why there is none."""

from similar_images.images import ImageReadError, Source, thumbnail


def picture(photo: Source, side: int) -> tuple[bytes, str]:
    """Return a thumbnail and "", or nothing and the reason why there is none."""
    try:
        return thumbnail(photo, side), ""
    except ImageReadError as error:
        return b"", error.reason
