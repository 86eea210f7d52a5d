"""Photo files, opened in known formats only, and decoded in this process."""

import contextlib
import struct
from typing import IO

from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile

from similar_images.photos.boxes import AvifFacts, avif_facts, jpeg_2000_profile
from similar_images.photos.decoding_cost import check_cost
from similar_images.photos.errors import UnreadableError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "TGA")  # TGA is guessed: last
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
DRAFT_MARGIN = 2  # at 1 the coarser scaling shows: vectors of COCO photos differ by cosines down to 0.92
GREY_STEPS = {"L;2": 85, "L;4": 17}
DAMAGED_BOXES = (ValueError, ArithmeticError, LookupError, struct.error)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_photo(file: IO[bytes]) -> ImageFile.ImageFile:
    """Return a photo file as a PIL image that is not decoded yet.

    Args:
        file: at its beginning; it has to stay open until the photo is decoded.

    Raises:
        UnreadableError: it is empty, or not in one of the formats that are read.
    """
    head = file.read(12)
    file.seek(0)
    heic = head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS
    reads_heic = heic and _register_heif()
    try:
        return Image.open(file, formats=[*FORMATS, "HEIF"] if reads_heic else FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableError(_why_unknown(head, heic, reads_heic)) from error


def decode(image: Image.Image, target: tuple[int, int] | None = None) -> Image.Image:
    """Return a photo decoded, in the mode that its format has and as it is stored, which may be on its side.

    Args:
        image: a photo that is still to be decoded, or one that is, which is not modified.
        target: (width, height) in pixels; a JPEG is decoded at a smaller scale that still gives at least twice these.

    Raises:
        UnreadableError: it has no pixels, is of a format that is not read, or would take too much memory or time.
        Exception: whatever Pillow's decoders raise on damaged files.
    """
    if 0 in image.size:
        raise UnreadableError("it has no pixels")
    if isinstance(image, ImageFile.ImageFile) and (image.tile or image.fp is not None):
        image = _decoded(image, target)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for an Adobe one, which is stored inverted
    return image


def upright(image: Image.Image) -> Image.Image:
    """Return a decoded photo as it was taken, turned as its EXIF says; damaged EXIF says nothing."""
    turn = None
    with contextlib.suppress(Exception):
        turn = TURNS.get(image.getexif().get(Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _register_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _why_unknown(head: bytes, heic: bool, reads_heic: bool) -> str:
    if not head:
        return "it is empty"
    if reads_heic:
        return "it is damaged or cut off"
    if heic:
        return "it is an HEIC photo, which needs one more package: pip install pillow-heif"
    return (
        "it is not a photo in a format that is read: JPEG, PNG, HEIC, WebP, AVIF, TIFF, GIF, BMP, JPEG 2000, PPM, TGA"
    )


def _decoded(image: ImageFile.ImageFile, target: tuple[int, int] | None) -> Image.Image:
    if image.format not in (*FORMATS, "MPO", "HEIF"):
        raise UnreadableError(f"photos in the format {image.format} are not read")
    if target and isinstance(image, JpegImageFile):
        side = DRAFT_MARGIN * max(target)
        image.draft(None, (side, side))  # square: EXIF may swap the sides
    avif = _avif_facts(image)
    check_cost(image, whole=target is None, deep=avif.deep)
    _scale_transparent_colour(image)
    _add_profile(image)
    image.load()
    return image.crop(avif.crop) if avif.crop else image


def _avif_facts(image: ImageFile.ImageFile) -> AvifFacts:
    if image.format != "AVIF":
        return AvifFacts(deep=image.info.get("bit_depth", 8) > 8, crop=None)
    with contextlib.suppress(*DAMAGED_BOXES):
        return avif_facts(_file_bytes(image), image.size)
    return AvifFacts(deep=True, crop=None)


def _add_profile(image: ImageFile.ImageFile) -> None:
    """Find a JPEG 2000 file's ICC profile, which Pillow omits."""
    if image.format == "JPEG2000":
        with contextlib.suppress(*DAMAGED_BOXES):
            image.info["icc_profile"] = jpeg_2000_profile(_file_bytes(image))


def _file_bytes(image: ImageFile.ImageFile) -> bytes:
    assert image.fp is not None
    image.fp.seek(0)
    return image.fp.read()


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    """Bring a PNG's transparent colour to the 8 bits that its colours are decoded to, which Pillow omits."""
    colour, stored = image.info.get("transparency"), image.tile[0].args if image.format == "PNG" else None
    if colour is not None and stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif colour is not None and stored in GREY_STEPS:
        image.info["transparency"] = colour * GREY_STEPS[stored]
