"""Photos in memory, and files that can't be read as photos."""

import io
import os
import struct
from pathlib import Path

from PIL import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


def two_halves(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (64, 48), RED)
    image.paste(BLUE, (32, 0, 64, 48))
    return image.convert(mode)


def bad_files(folder: Path) -> dict[str, str]:
    """Make files that can't be read; return the reason that each should be given."""
    jpeg = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), "JPEG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a photo")
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "cut.png").write_bytes(encoded(two_halves(), "PNG")[:60])
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "folder.jpg").mkdir()
    (folder / "nowhere.jpg").symlink_to(folder / "missing")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return {
        "empty.jpg": "empty",
        "text.jpg": "not a photo",
        "cut.jpg": "cut off",
        "cut.png": "cut off",
        "bomb.png": "megapixels",
        "folder.jpg": "folder",
        "nowhere.jpg": "link to a file that is not there",
        "loop.jpg": "symbolic links",
        "pipe.jpg": "not a regular file",
        "missing.jpg": "no such file",
    }


def bomb() -> bytes:
    """Return the start of a PNG that claims to be 100,000 x 100,000 pixels."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
