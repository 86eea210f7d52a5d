"""Reads photos: a path, bytes, an address or a PIL image becomes upright RGB."""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.photos.colours import to_8_bit, to_srgb
from similar_images.photos.errors import ImageReadError, UnreadableError, printable
from similar_images.photos.photo_files import DRAFT_MARGIN, decode, open_photo, upright

__all__ = [
    "Box",
    "ImageReadError",
    "Pixels",
    "Resize",
    "Source",
    "area_weights",
    "cropped",
    "image_size",
    "is_url",
    "read_file",
    "read_image",
    "read_resized",
    "resize",
    "source_name",
    "thumbnail",
]

Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | Image.Image
Resize = Literal["bilinear", "keras"]
Box = tuple[float, float, float, float]

RESAMPLING: dict[Resize, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "keras": Image.Resampling.NEAREST,
}

# Pillow refuses photos above twice its limit with an error, which is what we rely on; its warning below is only noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(source: Source, target: tuple[int, int] | None = None) -> Pixels:
    """Return a photo's pixels, upright.

    Args:
        source: a path, the bytes of a photo file, an http(s) address, or a PIL image (not modified).
        target: (width, height) in pixels that the caller will resize to; a JPEG is then decoded at a smaller scale
            where that still gives at least twice these sizes. None decodes every pixel.

    Returns:
        (h, w, 3) uint8 RGB: EXIF orientation applied, transparency over white, the first frame of an animation.

    Raises:
        ImageReadError: the source is missing, no photo, damaged, or too large.
    """
    return np.array(_read(source, target))


def read_resized(source: Source, size: tuple[int, int], rule: Resize = "bilinear") -> Pixels:
    """Return a photo resized to `size`, ignoring aspect ratio: `read_image` and `resize` without copies in between.

    Args:
        source: see `read_image`.
        size: (width, height) in pixels.
        rule: see `resize`; a JPEG is decoded at a smaller scale for "bilinear" only.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageReadError: see `read_image`.
    """
    target = size if rule == "bilinear" else None
    return np.array(_read(source, target, lambda image: image.resize(size, RESAMPLING[rule])))


def read_file(path: str | os.PathLike[str]) -> tuple[bytes, os.stat_result]:
    """Return a photo file's bytes, and the file's status before they were read.

    Raises:
        ImageReadError: it is missing or can't be read; whether it is a photo is not looked at.
    """
    try:
        with _file(path) as file:
            status = os.fstat(file.fileno())
            return file.read(), status
    except Exception as error:  # a name may hold what no path can
        raise ImageReadError(source_name(path), _reason(path, error)) from error


def source_name(source: Source) -> str:
    """Return what to call a source in a message, printable whatever bytes its name holds."""
    if isinstance(source, bytes):
        return "the photo"
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "the photo"
    return printable(os.fsdecode(source))


def is_url(source: object) -> bool:
    """Tell whether a source is an address rather than a path."""
    return isinstance(source, str) and "://" in source


def resize(pixels: Pixels, size: tuple[int, int], rule: Resize = "bilinear") -> Pixels:
    """Resize a photo to `size`, ignoring aspect ratio.

    Args:
        pixels: (h, w, 3) uint8, not modified.
        size: (width, height) in pixels.
        rule: "bilinear" is antialiased; "keras" is the nearest neighbour, as `keras.utils.load_img` does by default,
            for vectors published with it.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageReadError: there are no pixels.
    """
    if not pixels.size:
        raise ImageReadError("the photo", "it has no pixels")
    return np.array(Image.fromarray(pixels).resize(size, RESAMPLING[rule]))


def area_weights(old: int, new: int) -> NDArray[np.float32]:
    """Return the matrix of area interpolation from `old` values to `new` ones.

    Returns:
        (new, old) float32 whose rows sum to 1; new values = matrix @ old values.
    """
    ends, begins = np.arange(1, new + 1)[:, None] / new, np.arange(new)[:, None] / new
    overlaps = np.minimum(ends, np.arange(1, old + 1) / old) - np.maximum(begins, np.arange(old) / old)
    return np.asarray(np.maximum(overlaps, 0) * new, np.float32)


def cropped(source: Source, box: Box) -> Image.Image:
    """Return a part of a photo.

    Args:
        source: see `read_image`.
        box: left, top, right and bottom edge, as fractions of the upright photo's width and height.

    Raises:
        ImageReadError: see `read_image`; or the box holds nothing.
    """
    image = _read(source)
    left, top = round(box[0] * image.width), round(box[1] * image.height)
    right, bottom = round(box[2] * image.width), round(box[3] * image.height)
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ImageReadError(source_name(source), f"there is nothing in the part {box} of it")
    region = image.crop((left, top, right, bottom))
    region.info = {}  # its colours and orientation are applied already
    return region


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return a photo's width and height in pixels, as the file has them, without decoding it.

    Raises:
        ImageReadError: it is missing or no photo.
    """
    try:
        with _opened(path) as image:
            return image.size
    except Exception as error:  # see `_read`
        raise ImageReadError(source_name(path), _reason(path, error)) from error


def thumbnail(source: Source, side: int) -> bytes:
    """Return a photo as a small JPEG that fits into a square.

    Args:
        source: see `read_image`.
        side: the longest side, in pixels.

    Raises:
        ImageReadError: see `read_image`.
    """
    image = _read(source, (side, side), partial(_fitted, side=side))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


def _read(
    source: Source,
    target: tuple[int, int] | None = None,
    shrink: Callable[[Image.Image], Image.Image] = lambda image: image,
) -> Image.Image:
    """Return a photo as upright RGB, shrunk before its colours are converted, which then costs little."""
    try:
        with _opened(source) as image:
            photo = decode(image, None if image is source else target)
            factor = max(1, min(photo.size) // (DRAFT_MARGIN * max(target))) if target else 1
            return to_srgb(shrink(upright(to_8_bit(photo, factor))))
    except Exception as error:  # Pillow's decoders raise anything, from SyntaxError to struct.error, on damaged files
        raise ImageReadError(source_name(source), _reason(source, error)) from error


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = min(1, side / max(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), reducing_gap=DRAFT_MARGIN)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
    else:
        with _file(source) as file, open_photo(file) as image:
            yield image


def _file(source: str | os.PathLike[str] | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if is_url(source):
        from similar_images.photos.download import fetch

        return io.BytesIO(fetch(str(source)))
    if not stat.S_ISREG(mode := os.stat(source).st_mode) and not stat.S_ISDIR(mode):
        raise UnreadableError("it is not a regular file")
    return open(source, "rb")


def _reason(source: Source, error: Exception) -> str:
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        linked = not isinstance(source, bytes | Image.Image) and os.path.islink(source)
        return "it is a link to a file that is not there" if linked else "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a photo"
    if isinstance(error, PermissionError):
        return "you may not read it"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000} megapixels; make it smaller"
    if isinstance(error, OSError) and error.strerror:
        return f"it can't be read ({error.strerror})"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    return f"it is damaged or cut off ({error})"
