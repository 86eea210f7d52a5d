"""One way in for pixels: a path, bytes, an address or a PIL image becomes upright RGB."""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from similar_images.photo_errors import ImageReadError, UnreadableError, printable

__all__ = [
    "Box",
    "ImageReadError",
    "Pixels",
    "Resize",
    "Source",
    "area_shares",
    "cropped",
    "image_size",
    "is_url",
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

DRAFT_MARGIN = 2  # at 1 the coarser scaling shows: vectors of COCO photos differ by cosines down to 0.92
RESAMPLING: dict[Resize, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "keras": Image.Resampling.NEAREST,
}
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

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
    """Return a photo squeezed to `size`: `resize` of what `read_image` returns, without the copies in between.

    Args:
        source: see `read_image`.
        size: (width, height) in pixels.
        rule: see `resize`; a JPEG is decoded at a smaller scale for "bilinear" only.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageReadError: see `read_image`.
    """
    return np.array(_read(source, size if rule == "bilinear" else None).resize(size, RESAMPLING[rule]))


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


def _read(source: Source, target: tuple[int, int] | None) -> Image.Image:
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(_upright(source.copy()), source.format)
        with _opened(source) as file, _identify(file) as image:
            if target is not None:
                side = DRAFT_MARGIN * max(target)
                image.draft(None, (side, side))  # square: EXIF may swap the sides
            return _to_rgb(_upright(image), image.format)
    except Exception as error:  # Pillow's decoders raise anything, from SyntaxError to struct.error, on damaged files
        raise ImageReadError(source_name(source), _reason(source, error)) from error


def resize(pixels: Pixels, size: tuple[int, int], rule: Resize = "bilinear") -> Pixels:
    """Squeeze a photo to `size`, whatever its proportions.

    Args:
        pixels: (h, w, 3) uint8, not modified.
        size: (width, height) in pixels.
        rule: "bilinear" is antialiased; "keras" is the nearest neighbour, as `keras.utils.load_img` does by default,
            for vectors published with it.

    Returns:
        (height, width, 3) uint8.
    """
    return np.array(Image.fromarray(pixels).resize(size, RESAMPLING[rule]))


def area_shares(old: int, new: int) -> NDArray[np.float32]:
    """Return the matrix that averages a line of `old` values to `new` ones by the area that each of them covers.

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
    image = _read(source, None)
    left, top = round(box[0] * image.width), round(box[1] * image.height)
    right, bottom = round(box[2] * image.width), round(box[3] * image.height)
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ImageReadError(source_name(source), f"there is nothing in the part {box} of it")
    return image.crop((left, top, right, bottom))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return a photo's width and height in pixels, as the file has them, without decoding it.

    Raises:
        ImageReadError: it is missing or no photo.
    """
    try:
        with open(path, "rb") as file, _identify(file) as image:
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
    image = _read(source, (side, side))
    image.thumbnail((side, side))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif is_url(source):
        from similar_images.download import fetch

        yield io.BytesIO(fetch(str(source)))
    elif not stat.S_ISREG(mode := os.stat(source).st_mode) and not stat.S_ISDIR(mode):
        raise UnreadableError("it is not a regular file")
    else:
        with open(source, "rb") as file:
            yield file


def _identify(file: IO[bytes]) -> Image.Image:
    head = file.read(12)
    file.seek(0)
    heic = head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS
    if heic:
        _register_heif()
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        if not head:
            raise UnreadableError("it is empty") from error
        if heic:
            raise UnreadableError(
                "it is an HEIC photo, which needs one more package: pip install pillow-heif"
            ) from error
        raise UnreadableError("it is not a photo in a format that Pillow reads") from error


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with contextlib.suppress(Exception):  # damaged EXIF says nothing about the pixels, which have been decoded
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode == "CMYK" and file_format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for an Adobe one, which is stored inverted
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, np.float64))
    scales = {"F": (1, 255, 65535), "I": (255, 65535)}.get(image.mode, (65535,))
    white = next((scale for scale in scales if values.max() <= scale), values.max())
    return Image.fromarray(np.uint8(np.clip(values / white, 0, 1) * 255 + 0.5))


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
