"""Read damaged copies of photos of all formats: python tests/photo_fuzz.py COPIES; exit code 1 for a traceback."""

import faulthandler
import io
import random
import sys
import time
import traceback
from collections import Counter

import icc
import numpy as np
import pillow_heif
from PIL import Image

from similar_images.photos.images import ImageReadError, cropped, read_image, read_resized, thumbnail


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


def whole_photos() -> dict[str, bytes]:
    rgb = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    rgb.paste("teal", (20, 10, 60, 40))
    frames, exif = [Image.new("RGB", (96, 64), colour) for colour in ("red", "lime", "blue")], Image.Exif()
    exif[0x0112] = 6
    profiles = {"rgb": icc.rgb_profile(icc.PROPHOTO, 1.8), "cmyk": icc.cmyk_profile()}
    heic = io.BytesIO()
    pillow_heif.from_pillow(rgb).save(heic, quality=60)
    deep = Image.fromarray(np.tile(np.linspace(0, 65535, 96, dtype=np.uint16), (64, 1)))
    return {
        "JPEG": encoded(rgb, "JPEG", exif=exif, icc_profile=profiles["rgb"]),
        "progressive": encoded(rgb, "JPEG", progressive=True),
        "CMYK": encoded(rgb.convert("CMYK"), "JPEG", icc_profile=profiles["cmyk"]),
        "MPO": encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]),
        "PNG": encoded(rgb, "PNG", exif=exif, icc_profile=profiles["rgb"]),
        "PNG of 16 bits": encoded(deep, "PNG", transparency=0),
        "palette": encoded(rgb.quantize(16), "PNG", transparency=bytes(range(16))),
        "APNG": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "GIF": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0),
        "WebP": encoded(rgb, "WEBP", exif=exif, icc_profile=profiles["rgb"]),
        "animated WebP": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "TIFF": encoded(rgb, "TIFF", icc_profile=profiles["rgb"]),
        "TIFF by LZW": encoded(rgb, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: 6}),
        "TIFF by JPEG": encoded(rgb, "TIFF", compression="jpeg"),
        "TIFF by G4": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "float TIFF": encoded(rgb.convert("F"), "TIFF", compression="tiff_deflate"),
        "AVIF": encoded(rgb, "AVIF", exif=exif, icc_profile=profiles["rgb"]),
        "HEIC": heic.getvalue(),
        "JPEG 2000": encoded(rgb, "JPEG2000"),
        "BMP": encoded(rgb.quantize(16), "BMP"),
        "TGA": encoded(rgb, "TGA", compression="tga_rle"),
        "PPM": encoded(rgb, "PPM"),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a copy with bytes changed, put in, taken out or cut off, mostly in the header."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 10))):
        at = rng.randrange(min(len(changed), rng.choice((64, 600, len(changed)))))
        what = rng.randrange(6)
        if what == 0:
            changed[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif what == 1:
            del changed[at : at + rng.randrange(1, 40)]
        elif what == 2:
            changed[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
        else:
            changed[at] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.2 else changed)


def read(data: bytes) -> str:
    ways = (read_image, lambda source: read_resized(source, (32, 32)), lambda source: thumbnail(source, 32))
    outcomes = set()
    for way in (*ways, lambda source: cropped(source, (0, 0, 0.5, 0.5))):
        try:
            way(data)
            outcomes.add("read")
        except ImageReadError as error:
            str(error).encode()
            outcomes.add("refused")
        except Exception:
            traceback.print_exc()
            outcomes.add("traceback")
    return max(outcomes)


def main(copies: int) -> None:
    faulthandler.enable()
    photos, outcomes, slowest = whole_photos(), Counter(read(data) for data in whole_photos().values()), 0.0
    assert outcomes == {"read": len(photos)}, outcomes
    for number in range(copies):
        kind = list(photos)[number % len(photos)]
        began = time.perf_counter()
        outcomes[read(damaged(photos[kind], random.Random(number)))] += 1
        slowest = max(slowest, time.perf_counter() - began)
    print(f"{dict(outcomes)}, the slowest took {slowest:.1f} s")
    sys.exit(outcomes["traceback"] > 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
