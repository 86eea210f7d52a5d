import io
import random
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from similar_images.photos.facts import PhotoFacts, photo_facts

PARIS = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (48.0, 51.0, 30.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (2.0, 17.0, 40.2),
}


def encoded(kind: str = "JPEG", taken: object = None, place: dict[int, Any] | None = None, **tags: Any) -> bytes:
    """Return a photo of 40 x 30 pixels whose EXIF says this."""
    exif = Image.Exif()
    for name, value in tags.items():
        exif[Base[name]] = value
    if taken is not None:
        exif[IFD.Exif] = {Base.DateTimeOriginal: taken}
    if place is not None:
        exif[IFD.GPSInfo] = place
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, kind, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_photo_facts_of_a_photo_with_exif_are_what_it_says(kind: str) -> None:
    content = encoded(kind, "2024:06:30 18:05:00", PARIS, Make="Canon", Model="EOS 5D")
    facts = photo_facts(content)
    assert facts[:4] == (40, 30, "2024-06-30T18:05:00", "Canon EOS 5D")
    assert facts[4:] == pytest.approx((48 + 51 / 60 + 30 / 3600, 2 + 17 / 60 + 40.2 / 3600), abs=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TGA", "JPEG2000", "WEBP", "AVIF", "TIFF"])
def test_photo_facts_without_exif_are_its_size(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, kind)
    assert photo_facts(file.getvalue()) == PhotoFacts(40, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photo_facts_have_the_size_of_the_upright_photo(orientation: int, kind: str) -> None:
    facts = photo_facts(encoded(kind, Orientation=orientation))
    assert (facts.width, facts.height) == ((40, 30) if orientation < 5 else (30, 40))


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ("2024:06:30 18:05:00", "2024-06-30T18:05:00"),
        ("2024:06:30 18:05:00+02:00", "2024-06-30T18:05:00"),
        (" 2024:06:30 18:05:00 ", "2024-06-30T18:05:00"),
        ("2024:02:30 18:05:00", None),
        ("2024:06:30 24:61:00", None),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2024:06:30", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_photo_facts_take_only_dates_that_there_are(taken: str, expected: str | None) -> None:
    assert photo_facts(encoded(taken=taken)).taken == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("SONY  ", " DSC-RX100\0garbage", "SONY DSC-RX100"),
        ("", "X100", "X100"),
        ("Fujifilm", "", "Fujifilm"),
        ("two\nlines", "m\x1bodel", "two lines m odel"),
        (" ", "", None),
    ],
)
def test_photo_facts_name_the_camera_once_and_tidily(make: str, model: str, expected: str | None) -> None:
    assert photo_facts(encoded(Make=make, Model=model)).camera == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
        {GPS.GPSLongitude: (181.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (48.0, 60.0, 0.0)},
        {GPS.GPSLatitude: (48.0, 0.0)},
        {GPS.GPSStatus: "V"},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    ],
)
def test_photo_facts_take_only_places_on_earth(wrong: dict[int, Any]) -> None:
    facts = photo_facts(encoded(place=PARIS | wrong, taken="2024:06:30 18:05:00"))
    assert (facts.latitude, facts.longitude, facts.taken) == (None, None, "2024-06-30T18:05:00")


def test_photo_facts_south_and_west_are_negative() -> None:
    place = PARIS | {GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W"}
    assert photo_facts(encoded(place=place))[4:] == pytest.approx((-48.858333, -2.2945), abs=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_photo_facts_of_damaged_files_are_none_or_some_but_never_an_error(kind: str) -> None:
    content = encoded(kind, "2024:06:30 18:05:00", PARIS, Make="Canon", Model="EOS 5D")
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content[: chance.randint(0, len(content))])
        for _ in range(chance.randint(0, 8)):
            if damaged:
                damaged[chance.randrange(min(400, len(damaged)))] = chance.randrange(256)
        assert isinstance(photo_facts(bytes(damaged)), PhotoFacts)


def test_photo_facts_of_a_format_that_is_not_read_are_none() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "EPS")
    assert photo_facts(file.getvalue()) == photo_facts(b"") == PhotoFacts()


def test_photo_facts_decode_no_pixels() -> None:
    file = io.BytesIO()
    Image.effect_noise((400, 300), 50).save(file, "PNG")
    assert photo_facts(file.getvalue()[:200]) == PhotoFacts(400, 300)
