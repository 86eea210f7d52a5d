"""A photo file's metadata: its size, when, with what and where it was taken."""

import contextlib
import io
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, TypeVar

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from similar_images.photos.boxes import avif_facts
from similar_images.photos.photo_files import open_photo

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
CAMERA_LENGTH = 80

warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")  # about damaged EXIF, in which we expect anything

Given = TypeVar("Given")
Read = TypeVar("Read")


class PhotoFacts(NamedTuple):
    """A photo file's metadata; None for what is missing or not credible.

    Attributes:
        width: in pixels, upright.
        height: likewise.
        taken: when, without a zone: "2024-06-30T18:05:00".
        camera: maker and model.
        latitude: where it was taken, in degrees, north is positive.
        longitude: likewise, east is positive.
    """

    width: int | None = None
    height: int | None = None
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def photo_facts(content: bytes) -> PhotoFacts:
    """Return the metadata in the bytes of a photo file, without decoding it; damaged metadata is left out."""
    with contextlib.suppress(Exception), open_photo(io.BytesIO(content)) as image:  # see `images.read_image`
        # A PNG's own `getexif` would decode it.
        exif = _tried(Image.Image.getexif, image) or Image.Exif()
        is_sideways = _tried(lambda tags: tags.get(Base.Orientation) in SIDEWAYS, exif)
        width, height = _size(image, content)[:: -1 if is_sideways else 1]
        latitude, longitude = _tried(_place, exif) or (None, None)
        return PhotoFacts(width, height, _tried(_taken, exif), _tried(_camera, exif), latitude, longitude)
    return PhotoFacts()


def _tried(read: Callable[[Given], Read], given: Given) -> Read | None:
    """Return what is read, None where that fails: Pillow raises anything on damaged EXIF."""
    with contextlib.suppress(Exception):
        return read(given)
    return None


def _size(image: Image.Image, content: bytes) -> tuple[int, int]:
    """Return width and height of what is shown of a photo, before it is turned."""
    shown = None
    if image.format == "AVIF":
        shown = _tried(lambda data: avif_facts(data, image.size).crop, content)
    return (shown[2] - shown[0], shown[3] - shown[1]) if shown else image.size


def _taken(exif: Image.Exif) -> str:
    text = _text(exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal])
    return datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S").isoformat()


def _camera(exif: Image.Exif) -> str | None:
    make, model = _text(exif.get(Base.Make, "")), _text(exif.get(Base.Model, ""))
    first = make.partition(" ")[0]
    named = model if model.casefold().startswith(first.casefold()) else f"{make} {model}"
    return named.strip()[:CAMERA_LENGTH] or make or None


def _text(value: str) -> str:
    """Return EXIF's text up to its end, in one line that can be printed."""
    words = "".join(letter if letter.isprintable() else " " for letter in value.partition("\0")[0])
    return " ".join(words.split())


def _place(exif: Image.Exif) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees, None where the receiver had none or they are none on Earth."""
    tags = exif.get_ifd(IFD.GPSInfo)
    latitude = _degrees(tags[GPS.GPSLatitude]) * {"N": 1, "S": -1}[_text(tags[GPS.GPSLatitudeRef]).upper()]
    longitude = _degrees(tags[GPS.GPSLongitude]) * {"E": 1, "W": -1}[_text(tags[GPS.GPSLongitudeRef]).upper()]
    is_void = tags.get(GPS.GPSStatus) == "V" or (latitude, longitude) == (0, 0)
    return None if is_void or abs(latitude) > 90 or abs(longitude) > 180 else (latitude, longitude)


def _degrees(parts: tuple[float, float, float]) -> float:
    degrees, minutes, seconds = map(float, parts)
    if not (0 <= degrees <= 180 and 0 <= minutes < 60 and 0 <= seconds < 60):
        raise ValueError("no angle")
    return round(degrees + minutes / 60 + seconds / 3600, 7)
