import ast
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from conftest import ROOT
from PIL import Image

from similar_images.photos.facts import photo_facts
from similar_images.photos.images import ImageReadError, image_size, read_image, read_resized, thumbnail
from similar_images.search.gallery import Gallery

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\nshowpage\n%%EOF\n"


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


def heic() -> bytes:
    data = io.BytesIO()
    pillow_heif.from_pillow(Image.effect_noise((64, 48), 80).convert("RGB")).save(data, quality=90)
    return data.getvalue()


READ = """
import sys
from PIL import Image
from similar_images.photos.images import ImageReadError, read_image, read_resized, thumbnail
programs = []
names = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "os.system")
sys.addaudithook(lambda name, _: programs.append(name) if name in names else None)
path = sys.argv[1]
for read in (read_image, lambda source: read_resized(source, (64, 64)), lambda source: thumbnail(source, 64)):
    for source in (path, open(path, "rb").read(), Image.open(path)):
        try:
            read(source)
        except ImageReadError as error:
            print(error.reason)
print(programs)
"""


def test_photo_that_is_a_program_starts_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(EPS)
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    settings = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", READ, str(tmp_path / "a.jpg")]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=True)
    *reasons, programs = done.stdout.splitlines()
    assert len(reasons) == 9 and {reason.split(":")[0] for reason in reasons} == {
        "it is not a photo in a format that is read",
        "photos in the format EPS are not read",
    }
    assert programs == "[]" and not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PCX", "SGI", "ICO", "MSP", "SPIDER", "DDS", "XBM", "PDF"])
def test_read_image_of_other_formats_says_which_are_read(kind: str) -> None:
    image = Image.new({"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB"), (32, 32))
    with pytest.raises(ImageReadError, match=r"not a photo in a format that is read: JPEG, PNG"):
        read_image(encoded(image, kind))


def test_every_image_is_opened_as_one_of_known_formats() -> None:
    opened = [
        (file.name, node.keywords)
        for file in [*(ROOT / "similar_images").rglob("*.py"), *ROOT.glob("*.py")]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert opened and [name for name, keywords in opened if "formats" not in {word.arg for word in keywords}] == []


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:40] + bytes(400)])
def test_read_image_of_damaged_heic_says_so_where_the_package_is_installed(damage: object) -> None:
    with pytest.raises(ImageReadError, match="damaged or cut off"):
        read_image(damage(heic()))


def test_read_image_of_heic_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    read_image(heic())  # it may have been there before
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageReadError, match="pip install pillow-heif"):
        read_image(heic())


@pytest.mark.parametrize("size", [(0, 0), (0, 7), (7, 0)])
def test_photo_without_pixels_is_none(gallery: Gallery, size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for read in (read_image, lambda source: read_resized(source, (8, 8)), lambda source: thumbnail(source, 8)):
        with pytest.raises(ImageReadError, match="it has no pixels"):
            read(Image.new("RGB", size))
    for query in (Image.new("RGB", size), pixels):
        with pytest.raises(ImageReadError, match="it has no pixels"):
            gallery.search(query)


def with_clean_aperture(data: bytes, *aperture: int) -> bytes:
    """Add a clap box to the only photo of an AVIF file: fractions of width, height, and the centre's offsets."""
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", *aperture)
    properties, entry = data.index(b"ipco") - 4, data.index(b"ipma") - 4
    number, at = 1, properties + 8
    while at < entry:
        number, at = number + 1, at + struct.unpack_from(">I", data, at)[0]
    ends = entry + struct.unpack_from(">I", data, entry)[0]
    changed = bytearray(data[:entry] + clap + data[entry:ends] + bytes([0x80 | number]) + data[ends:])
    changed[entry + 58] += 1  # how many properties the photo has
    located = data.index(b"iloc") + 18
    for at, by in ((data.index(b"meta") - 4, 41), (data.index(b"iprp") - 4, 41), (properties, 40), (located, 41)):
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", changed, at)[0] + by)
    struct.pack_into(">I", changed, entry + 40, ends - entry + 1)
    return bytes(changed)


def checked() -> Image.Image:
    """Return 60 x 40 pixels: red, green, blue and white quarters."""
    image = Image.new("RGB", (60, 40), "red")
    for colour, corner in (("lime", (30, 0)), ("blue", (0, 20)), ("white", (30, 20))):
        image.paste(colour, (*corner, corner[0] + 30, corner[1] + 20))
    return image


@pytest.mark.parametrize(
    ("aperture", "box"),
    [
        ((30, 1, 20, 1, 15, 1, 10, 1), (30, 20, 60, 40)),
        ((20, 1, 10, 1, 0, 1, 0, 1), (20, 15, 40, 25)),
        ((40, 2, 60, 2, -40, 2, 0, 1), (0, 5, 20, 35)),
        ((90, 1, 10, 1, 0, 1, 0, 1), (0, 0, 60, 40)),
        ((30, 0, 10, 1, 0, 1, 0, 1), (0, 0, 60, 40)),
    ],
    ids=["corner", "middle", "fractions", "too large", "damaged"],
)
def test_read_image_of_avif_shows_its_clean_aperture(aperture: tuple[int, ...], box: tuple[int, ...]) -> None:
    data = encoded(checked(), "AVIF", quality=100, subsampling="4:4:4")
    expected, photo = Image.open(io.BytesIO(data)).crop(box), with_clean_aperture(data, *aperture)
    assert np.array_equal(read_image(photo), np.asarray(expected)) and photo_facts(photo)[:2] == expected.size


def test_read_image_of_avif_is_turned_after_its_clean_aperture_is_taken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it right
    data = encoded(checked(), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    stored = Image.open(io.BytesIO(data))
    expected = stored.crop((30, 20, 60, 40)).transpose(Image.Transpose.ROTATE_270)
    photo = with_clean_aperture(data, 30, 1, 20, 1, 15, 1, 10, 1)
    assert np.array_equal(read_image(photo), np.asarray(expected)) and photo_facts(photo)[:2] == expected.size


@pytest.mark.parametrize("name", ["\ud800.jpg", "a\0b.jpg", os.fsdecode(b"\xe9.jpg")])
def test_read_image_of_a_name_that_no_file_can_have_is_a_sentence(name: str) -> None:
    with pytest.raises(ImageReadError) as caught:
        read_image(name)
    str(caught.value).encode()


def test_image_size_tells_without_decoding(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(checked(), "PNG")[:100])
    assert image_size(tmp_path / "photo.png") == (60, 40)


def test_damaged_copies_of_photos_are_read_or_refused_and_nothing_else() -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "photo_fuzz.py"), "66"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
