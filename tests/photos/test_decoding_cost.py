import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from conftest import ROOT
from PIL import Image

from similar_images.photos.images import ImageReadError, read_image, read_resized

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
LARGE = 13_000  # pixels a side: 169 megapixels, which Pillow itself still opens


def encoded(kind: str, mode: str = "RGB", **how: object) -> bytes:
    data = io.BytesIO()
    Image.new(mode, (64, 64)).save(data, kind, **how)
    return data.getvalue()


def png(mode: tuple[int, int], side: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, *mode, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def tiff(**tags: int) -> bytes:
    """Return the header of a TIFF of deflated 32-bit floats."""
    numbers = {
        "bits": 258,
        "compression": 259,
        "photometric": 262,
        "strip": 273,
        "samples": 277,
        "rows": 278,
        "count": 279,
    }
    numbers |= {"width": 256, "height": 257, "orientation": 274, "tile_width": 322, "tile_height": 323, "format": 339}
    fixed = {"bits": 32, "compression": 8, "photometric": 1, "strip": 8, "samples": 1, "count": 8, "format": 3}
    entries = sorted((numbers[name], value) for name, value in (fixed | tags).items())
    table = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    return b"II*\0" + struct.pack("<IQH", 16, 0, len(entries)) + table + bytes(4)


def enlarged(data: bytes, marker: bytes, skipped: int, kind: str, side: int = LARGE) -> bytes:
    """Overwrite the sizes that stand some bytes behind a marker."""
    changed = bytearray(data)
    struct.pack_into(kind, changed, data.index(marker) + len(marker) + skipped, side, side)
    return bytes(changed)


def heic() -> bytes:
    data = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(data)
    return enlarged(data.getvalue(), b"ispe", 4, ">II")


SMALL_FILES: dict[str, Callable[[], bytes]] = {
    "WebP": lambda: bytes.fromhex("524946461e000000574542505650384c110000002ffeffa40a07508f2297a7ff8188e87f0000"),
    "JPEG 2000": lambda: enlarged(enlarged(encoded("JPEG2000"), b"ihdr", 0, ">II"), b"\xff\x51", 4, ">II"),
    "AVIF": lambda: enlarged(encoded("AVIF"), b"ispe", 4, ">II"),
    "HEIC": heic,
    "RGB PNG": lambda: png((8, 2), LARGE),
    "RGBA PNG of 16 bits": lambda: png((16, 6), LARGE),
    "progressive CMYK": lambda: enlarged(encoded("JPEG", "CMYK", progressive=True), b"\xff\xc2", 3, ">HH", 9_000),
    "TIFF": lambda: tiff(width=LARGE, height=LARGE, rows=1),
    "TIFF in one strip": lambda: tiff(width=9_000, height=9_000, rows=9_000),
    "turned TIFF": lambda: tiff(width=9_000, height=9_000, rows=1, orientation=6),
    "TIFF with a large tile": lambda: tiff(width=64, height=64, tile_width=LARGE, tile_height=LARGE),
}


@pytest.mark.parametrize("kind", SMALL_FILES)
def test_small_file_that_takes_much_memory_is_refused(kind: str) -> None:
    pillow_heif.register_heif_opener()
    data = SMALL_FILES[kind]()
    assert len(data) < 2000
    for source in (data, Image.open(io.BytesIO(data))):
        with pytest.raises(
            ImageReadError, match=r"decoding it takes [\d,]+ MB of memory, more than 512 MB: make it sm"
        ):
            read_resized(source, (224, 224))


def test_photo_of_50_megapixels_is_not_refused_for_its_memory() -> None:
    for data in (png((8, 6), 7_100), tiff(width=7_100, height=7_100, rows=8)):
        with pytest.raises(ImageReadError, match="damaged"):
            read_resized(data, (224, 224))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
@pytest.mark.parametrize("mode", ["I;16", "P"])
def test_two_workers_that_read_large_photos_take_little_more_than_their_pixels(mode: str, tmp_path: Path) -> None:
    side = 4000
    photo = Image.new(mode, (side, side), 50 if mode == "P" else 30_000)
    photo.save(tmp_path / "large.png", compress_level=1, transparency=7)
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    command = [sys.executable, ROOT / "tests" / "peak_memory.py", tmp_path / "large.png", tmp_path / "small.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    peak, *means = map(float, done.stdout.split())
    stored = side * side * (2 if mode == "I;16" else 1)
    assert peak < 2 * stored + 200_000_000  # before: 19 bytes per pixel and worker
    assert means == [pytest.approx(117 if mode == "I;16" else means[0], abs=0.5)] * 2


def repeated(jpeg: bytes, times: int) -> bytes:
    """Let the last scan of a JPEG come again and again."""
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * times + b"\xff\xd9"


def separate_scans() -> bytes:
    """Return a JPEG that is not progressive and has a scan for each of its colours."""
    grey = io.BytesIO()
    Image.linear_gradient("L").save(grey, "JPEG")
    data = grey.getvalue()
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    tables = data[frame + 2 + struct.unpack_from(">H", data, frame + 2)[0] : scan]
    colours = struct.pack(">HHBHHB", 0xFFC0, 17, 8, 256, 256, 3) + b"".join(bytes([at, 0x11, 0]) for at in (1, 2, 3))
    scans = b"".join(data[scan : scan + 5] + bytes([at]) + data[scan + 6 : -2] for at in (1, 2, 3))
    return data[:frame] + colours + tables + scans + b"\xff\xd9"


@pytest.mark.parametrize(
    "make", [lambda: encoded("JPEG", progressive=True), separate_scans], ids=["progressive", "not"]
)
def test_jpeg_of_thousands_of_scans_is_refused(make: Callable[[], bytes]) -> None:
    few, many = repeated(make(), 20), repeated(make(), 3000)
    assert read_resized(few, (224, 224)).shape == (224, 224, 3)
    for source in (many, Image.open(io.BytesIO(many))):
        with pytest.raises(ImageReadError, match=r"it comes in 3,0\d\d scans, more than 100: save it again"):
            read_resized(source, (224, 224))


def test_jpeg_whose_colours_come_in_scans_of_their_own_is_read() -> None:
    grey = Image.linear_gradient("L")
    expected = np.asarray(Image.merge("YCbCr", (grey, grey, grey)).convert("RGB")).astype(int)
    assert np.abs(read_image(separate_scans()) - expected).max() <= 8
