import io
import struct
import threading
import zlib
from pathlib import Path

import icc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from similar_images.photos.images import cropped, read_image, read_resized, resize, thumbnail

Bytes = NDArray[np.uint8]

SPACES = {"ProPhoto": (icc.PROPHOTO, 1.8), "Adobe RGB": (icc.ADOBE_RGB, 2.2), "Display P3": (icc.DISPLAY_P3, 2.2)}
CMYK = icc.cmyk_profile()


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


@pytest.fixture(scope="module")
def colours() -> Bytes:
    """(64, 64, 3), of all hues and brightnesses, without edges that a JPEG would blur."""
    down, across = np.mgrid[0:64, 0:64] / 63
    return np.round(255 * np.stack([across, down, 0.5 + 0.5 * np.sin(3 * (across - down))], -1)).astype(np.uint8)


def off_by(pixels: Bytes, expected: Bytes) -> float:
    return float(np.abs(pixels.astype(int) - expected).mean())


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_read_image_with_a_profile_gives_srgb_colours(colours: Bytes, kind: str, space: str) -> None:
    how = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }.get(kind, {})
    copy = Image.fromarray(icc.in_space(colours, *SPACES[space]))
    assert off_by(np.asarray(copy), colours) > 8
    assert off_by(read_image(encoded(copy, kind, icc_profile=icc.rgb_profile(*SPACES[space]), **how)), colours) < 2.5


def test_read_image_of_heic_with_a_profile_gives_srgb_colours(colours: Bytes) -> None:
    import pillow_heif

    copy, data = Image.fromarray(icc.in_space(colours, *SPACES["Display P3"])), io.BytesIO()
    copy.info["icc_profile"] = icc.rgb_profile(*SPACES["Display P3"])
    pillow_heif.from_pillow(copy).save(data, quality=100, chroma=444)
    assert off_by(read_image(data.getvalue()), colours) < 3


def test_read_image_of_jpeg_2000_with_a_profile_gives_srgb_colours(colours: Bytes) -> None:
    data = encoded(Image.fromarray(icc.in_space(colours, *SPACES["ProPhoto"])), "JPEG2000")
    header, profile = data.index(b"jp2h") - 4, icc.rgb_profile(*SPACES["ProPhoto"])
    size, ends = struct.unpack_from(">I", data, header)[0], data.index(b"jp2c") - 4
    colour = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    begins = data.index(b"colr") - 4
    assert begins + struct.unpack_from(">I", data, begins)[0] == header + size == ends  # the last box of the header
    boxes = struct.pack(">I", begins - header + len(colour)) + data[header + 4 : begins] + colour
    assert off_by(read_image(data[:header] + boxes + data[ends:]), colours) < 2


@pytest.mark.parametrize("adobe", [True, False])
def test_read_image_of_cmyk_jpeg_with_a_profile_gives_srgb_colours(colours: Bytes, adobe: bool) -> None:
    inks = icc.as_inks(colours)
    data = encoded(Image.fromarray(inks if adobe else 255 - inks, "CMYK"), "JPEG", quality=100, icc_profile=CMYK)
    if not adobe:  # then the values are not stored inverted
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]
    assert off_by(read_image(data), colours) < 3
    assert off_by(np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")), colours) > 8


@pytest.mark.parametrize("bits", [8, 16])
def test_read_image_of_grey_with_a_profile_gives_srgb_greys(bits: int) -> None:
    values = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    stored = values if bits == 8 else values.astype(np.uint16) * 257
    pixels = read_image(encoded(Image.fromarray(stored), icc_profile=icc.grey_profile(1.8)))
    expected = np.round(255 * icc.from_linear((values / 255) ** 1.8))
    assert np.abs(pixels - expected[..., None]).max() <= 3 and np.abs(values - expected).max() > 10


def test_read_image_applies_a_profile_before_it_lays_alpha_over_white(colours: Bytes) -> None:
    copy = Image.fromarray(icc.in_space(colours, *SPACES["ProPhoto"]))
    copy.putalpha(128)
    pixels = read_image(encoded(copy, icc_profile=icc.rgb_profile(*SPACES["ProPhoto"])))
    assert off_by(pixels, np.round(colours * (128 / 255) + 127).astype(np.uint8)) < 1.5


def test_read_image_of_a_palette_with_a_profile_gives_srgb_colours(colours: Bytes) -> None:
    few = colours // 64 * 64
    copy = Image.fromarray(icc.in_space(few, *SPACES["Adobe RGB"])).quantize(256, dither=Image.Dither.NONE)
    assert off_by(read_image(encoded(copy, icc_profile=icc.rgb_profile(*SPACES["Adobe RGB"]))), few) < 2


@pytest.mark.parametrize("profile", [b"no profile at all", CMYK, icc.grey_profile(1.8), CMYK[:300], bytes(1 << 20)])
def test_read_image_with_a_profile_that_says_nothing_is_as_without(colours: Bytes, profile: bytes) -> None:
    data = encoded(Image.fromarray(colours), "TIFF", icc_profile=profile)
    assert np.array_equal(read_image(data), colours)


@pytest.mark.parametrize("make", [lambda: ImageCms.createProfile("sRGB"), None], ids=["Little CMS", "by hand"])
def test_read_image_with_an_srgb_profile_keeps_every_value(colours: Bytes, make: object) -> None:
    profile = ImageCms.ImageCmsProfile(make()).tobytes() if callable(make) else icc.srgb_profile()
    assert np.array_equal(read_image(encoded(Image.fromarray(colours), icc_profile=profile)), colours)


def test_read_resized_with_a_profile_is_the_resized_photo(colours: Bytes) -> None:
    copy = Image.fromarray(icc.in_space(colours, *SPACES["Display P3"]))
    data = encoded(copy, icc_profile=icc.rgb_profile(*SPACES["Display P3"]))
    assert off_by(read_resized(data, (20, 30)), resize(read_image(data), (20, 30))) < 1
    assert np.array_equal(read_resized(data, (20, 30), "keras"), resize(read_image(data), (20, 30), "keras"))


def test_part_and_thumbnail_of_a_photo_with_a_profile_have_it_applied_once(colours: Bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    copy = Image.fromarray(icc.in_space(colours[::-1, ::-1], *SPACES["Adobe RGB"]))
    data = encoded(copy, exif=exif, icc_profile=icc.rgb_profile(*SPACES["Adobe RGB"]))
    assert off_by(read_image(cropped(data, (0, 0, 1, 0.5))), colours[:32]) < 1.5
    small = Image.open(io.BytesIO(thumbnail(data, 64)))
    assert off_by(np.asarray(small), colours) < 4 and "icc_profile" not in small.info


def test_read_image_of_a_pil_image_leaves_it_as_it_was(colours: Bytes) -> None:
    data = encoded(Image.fromarray(colours), icc_profile=icc.rgb_profile(*SPACES["ProPhoto"]))
    image, untouched = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    assert np.array_equal(read_image(image), read_image(data)) and np.array_equal(read_image(image), read_image(data))
    assert np.array_equal(np.asarray(image), np.asarray(untouched)) and image.info == untouched.info


def test_threads_apply_the_same_profile_alike(colours: Bytes) -> None:
    data = [encoded(Image.fromarray(np.roll(colours, by, 0)), icc_profile=CMYK_OF_RGB) for by in range(16)]
    expected = [read_image(each) for each in data]
    found: list[bool] = []

    def read() -> None:
        for _ in range(10):
            found.append(
                all(np.array_equal(read_image(each), pixels) for each, pixels in zip(data, expected, strict=True))
            )

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


CMYK_OF_RGB = icc.rgb_profile(*SPACES["Adobe RGB"])


def png(rows: list[bytes], width: int, bits: int, colour_type: int, transparent: bytes) -> bytes:
    """Return a PNG as the standard has it, of rows of packed samples."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    samples = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = (b"IHDR", header), (b"tRNS", transparent), (b"IDAT", samples), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize(
    ("bits", "colour_type", "row", "transparent", "expected"),
    [
        (16, 0, struct.pack(">4H", 0x1234, 0x1235, 0, 0xFFFF), b"\x12\x34", [255, 18, 0, 255]),
        (8, 0, b"\x12\x34\x00\xff", b"\0\x12", [255, 52, 0, 255]),
        (4, 0, b"\x30\x0f", b"\0\x03", [255, 0, 0, 255]),
        (2, 0, b"\x63", b"\0\x01", [255, 170, 0, 255]),
        (1, 0, b"\xa0", b"\0\0", [255, 255, 255, 255]),
    ],
)
def test_read_image_of_grey_png_with_a_transparent_grey_lies_over_white(
    bits: int, colour_type: int, row: bytes, transparent: bytes, expected: list[int]
) -> None:
    pixels = read_image(png([row], 4, bits, colour_type, transparent))
    assert pixels.tolist() == [[[grey] * 3 for grey in expected]]


@pytest.mark.parametrize("bits", [8, 16])
def test_read_image_of_rgb_png_with_a_transparent_colour_lies_over_white(bits: int) -> None:
    values = [10, 200, 30, 40, 50, 60]
    stored = values if bits == 8 else [value << 8 | 0x55 for value in values]
    row = struct.pack(">6B" if bits == 8 else ">6H", *stored)
    pixels = read_image(png([row], 2, bits, 2, struct.pack(">3H", *stored[:3])))
    assert pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_read_image_of_a_large_photo_is_as_of_a_small_one(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 2100, dtype=np.uint16)
    photo = Image.fromarray(np.tile(values, (2100, 1)))  # larger than what is converted at a time
    photo.save(tmp_path / "large.png", compress_level=1, transparency=65535)
    pixels = read_image(tmp_path / "large.png")
    assert np.array_equal(pixels[0], pixels[-1]) and np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
    assert np.abs(pixels[0, :, 0] - values / 257).max() <= 0.5
    reduced = read_image(tmp_path / "large.png", (100, 100))
    assert reduced.shape == (210, 210, 3) and np.abs(reduced[0, :-1, 0] - values[5:-10:10] / 257).max() < 1.5
