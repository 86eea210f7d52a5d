r"""File lists: which photo is which row.

A list holds one name per line, relative to the photos' folder, in UTF-8; line i names row i. Names with bytes that are
not UTF-8 keep them. A name that a bare line can't hold (a newline in it, a carriage return at its end, or a leading
double quote) stands as a JSON string: `"two\nlines.jpg"`. Blank lines are skipped.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from similar_images.files import replacing

SUFFIXES = frozenset(
    [f".{kind}" for kind in "jpg jpeg jpe jfif mpo jp2 png gif webp avif heic heif tif tiff bmp dib tga".split()]
    + [".ppm", ".pgm", ".pbm", ".pnm"]
)


def list_photos(folder: Path) -> list[str]:
    """Return the names of all files below `folder` with a photo's suffix, sorted by their bytes.

    Links to folders are followed, but no folder is entered twice, so loops end. A folder that may not be read is left
    out with a warning.

    Raises:
        OSError: `folder` is missing or no folder.
    """
    return sorted(_walk(folder, "", set()), key=os.fsencode)


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: (entry.is_symlink(), os.fsencode(entry.name)))
    except PermissionError:
        warnings.warn(f"the folder {folder} is left out: you may not read it", stacklevel=2)
        return
    for entry in entries:
        if os.path.isdir(entry.path):
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", seen)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield prefix + entry.name


def folder_of(name: str) -> str:
    """Return the folder that a photo's name begins with, "" for none."""
    return name.rpartition("/")[0]


def read_file_list(path: Path) -> list[str]:
    """Return the names that a file list holds.

    Raises:
        ValueError: a line that begins with a double quote is not a JSON string.
        OSError: the file can't be read.
    """
    return parse_file_list(path.read_bytes(), path)


def parse_file_list(content: bytes, path: Path) -> list[str]:
    """Return the names that the bytes of a file list hold; `read_file_list` reads them from `path`."""
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [_parse(line, path, number) for number, line in enumerate(lines, 1) if line]


def _parse(line: str, path: Path, number: int) -> str:
    if not line.startswith('"'):
        return line
    try:
        name = json.loads(line)
    except ValueError:
        name = None
    if not isinstance(name, str):
        raise ValueError(f"{path}, line {number}: a name that begins with a double quote must be a JSON string")
    return name


def write_file_list(path: Path, names: Iterable[str]) -> None:
    """Write a file list that `read_file_list` reads back unchanged."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for name in names:
            bare = name and not name.startswith('"') and not name.endswith("\r") and "\n" not in name
            line = name if bare else json.dumps(name)
            file.write(line.encode("utf-8", "surrogateescape") + b"\n")
