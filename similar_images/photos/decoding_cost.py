"""The memory and time to decode a photo, estimated from its header, and their limits."""

from PIL.ExifTags import Base
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    IMAGELENGTH,
    IMAGEWIDTH,
    ROWSPERSTRIP,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from similar_images.photos.errors import UnreadableError

MAX_BYTES = 512 * 2**20
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 2_000_000_000  # about 2 seconds
RGB_BYTES = 4  # per pixel, in Pillow
START_OF_SCAN = b"\xff\xda"


def check_cost(image: ImageFile, *, whole: bool, deep: bool) -> None:
    """Refuse a photo that takes more than 512 MB of memory to decode, or more than 100 passes over it.

    Args:
        image: not decoded yet, and drafted if it will be.
        whole: whether all its pixels are wanted in the end.
        deep: whether an AVIF or HEIC photo has more than 8 bits.

    Raises:
        UnreadableError: it takes more.
    """
    needed = _jpeg_bytes(image) if isinstance(image, JpegImageFile) else _bytes(image, deep)
    if whole:
        needed = max(needed, RGB_BYTES * image.width * image.height)
    if needed > MAX_BYTES:
        raise UnreadableError(
            f"decoding it takes {needed / 2**20:,.0f} MB of memory, more than {MAX_BYTES >> 20} MB: make it smaller"
        )


def _bytes(image: ImageFile, deep: bool) -> float:
    """Return about how many bytes are in use at the peak.

    Source: the peak memory of processes that loaded photos of 40 megapixels with Pillow 13.0 and pillow-heif 1.8.
    """
    pixels, bands = image.width * image.height, len(image.getbands())
    stored = pixels * _stored_bytes(image)
    if isinstance(image, TiffImageFile):
        return stored + max(_tiff_block(image), stored if image.tag_v2.get(Base.Orientation, 1) != 1 else 0)
    modern = (11 if bands < 4 else 14) * (1.5 if deep else 1)
    decoders = {"WEBP": 17, "JPEG2000": 4.5 + 5 * bands, "AVIF": modern, "HEIF": modern}
    return max(stored, pixels * decoders.get(image.format or "", 0))


def _stored_bytes(image: Image) -> int:
    """Return how many bytes Pillow keeps per pixel."""
    return 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4


def _tiff_block(image: TiffImageFile) -> float:
    """Return the bytes of a strip or tile, which libtiff decodes as a whole."""
    tags = image.tag_v2
    if image.info["compression"] == "raw":
        return 0
    rows = min(tags.get(ROWSPERSTRIP, tags[IMAGELENGTH]), tags[IMAGELENGTH])
    pixels = tags[TILEWIDTH] * tags[TILELENGTH] if TILEWIDTH in tags else tags[IMAGEWIDTH] * rows
    bits = max(tags.get(BITSPERSAMPLE, (1,))) * tags.get(SAMPLESPERPIXEL, 1)
    return float(pixels * max(4, bits / 8))


def _jpeg_bytes(image: JpegImageFile) -> float:
    """Return the bytes of the pixels and, where these come in several scans, of the coefficients that libjpeg keeps."""
    scale = image.decoderconfig[0] if image.decoderconfig else 1
    stored = image.width * image.height * _stored_bytes(image)
    pixels, scans = image.width * image.height * scale**2, _scans(image)
    maximum = min(MAX_SCANS, MAX_SCANNED_PIXELS // pixels)
    if scans > maximum:
        raise UnreadableError(f"it comes in {scans:,} scans, more than {maximum}: save it again as an ordinary JPEG")
    samples = sum(across * down for _, across, down, _ in image.layer)
    largest = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
    return stored + (2 * pixels * samples / largest if scans > 1 else 0)


def _scans(image: JpegImageFile) -> int:
    """Return in how many scans a JPEG comes; the file is read for it unless the first scan holds all."""
    assert image.fp is not None
    first = image.fp.tell() - 8 - 2 * image.layers  # where a scan with all layers begins that ends here
    image.fp.seek(max(first, 0))
    if "progressive" not in image.info and image.fp.read(2) == START_OF_SCAN:
        return 1
    image.fp.seek(0)
    return image.fp.read().count(START_OF_SCAN)
