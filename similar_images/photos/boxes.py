"""What Pillow ignores in files that consist of boxes: AVIF and JPEG 2000."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

HIGH_BIT_DEPTH = 0x40  # in the third byte of an av1C box
WHOLE_PROFILE = 2  # the first byte of a colr box


@dataclass(frozen=True)
class AvifFacts:
    """What an AVIF file says of its photo.

    Attributes:
        deep: whether it has more than 8 bits.
        crop: the part to show, left, top, right and bottom edge in pixels of the photo before it is turned; None for
            all of it.
    """

    deep: bool
    crop: tuple[int, int, int, int] | None


def avif_facts(data: bytes, size: tuple[int, int]) -> AvifFacts:
    """Read what an AVIF file says of its photo.

    Args:
        data: the whole file.
        size: (width, height) in pixels of what is decoded.

    Raises:
        ValueError, LookupError, struct.error: the file is damaged.

    Source: ISO/IEC 23008-12 (HEIF), ISO/IEC 14496-12 for the clean aperture, and the AV1 Image File Format.
    """
    meta = dict(_boxes(dict(_boxes(memoryview(data)))[b"meta"][4:]))
    shared = dict(_boxes(meta[b"iprp"]))
    properties = list(_boxes(shared[b"ipco"]))
    version, item = meta[b"pitm"][0], meta[b"pitm"][4:]
    primary = int.from_bytes(item[: 4 if version else 2])
    of_primary = dict(properties[index - 1] for index in _associated(shared[b"ipma"], primary))
    deep = any(kind == b"av1C" and box[2] & HIGH_BIT_DEPTH for kind, box in properties)
    return AvifFacts(deep, _aperture(of_primary[b"clap"], size) if b"clap" in of_primary else None)


def jpeg_2000_profile(data: bytes) -> bytes | None:
    """Return a JPEG 2000 file's ICC profile, None where it has none.

    Raises:
        ValueError, LookupError, struct.error: the file is damaged, or a bare codestream.

    Source: ISO/IEC 15444-1, annex I.
    """
    header = dict(_boxes(memoryview(data)))[b"jp2h"]
    boxes = (bytes(box) for kind, box in _boxes(header) if kind == b"colr")
    return next((box[3:] for box in boxes if box[0] == WHOLE_PROFILE), None)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    while len(data) >= 8:
        size, kind, begin = *struct.unpack_from(">I4s", data), 8
        if size == 1:
            (size,), begin = struct.unpack_from(">Q", data, 8), 16
        size = size or len(data)
        if size < begin:
            raise ValueError("a box is smaller than its header")
        yield kind, data[begin:size]
        data = data[size:]


def _associated(box: memoryview, item: int) -> Iterator[int]:
    """Yield the numbers, from 1, of an item's properties."""
    item_bytes, index_bytes = (4 if box[0] else 2), (2 if box[3] & 1 else 1)
    (entries,) = struct.unpack_from(">I", box, 4)
    at = 8
    for _ in range(entries):
        found, count = int.from_bytes(box[at : at + item_bytes]), box[at + item_bytes]
        at += item_bytes + 1
        for _ in range(count):
            if found == item:  # the highest bit says whether the property is essential
                yield int.from_bytes(box[at : at + index_bytes]) & (0x7FFF if index_bytes == 2 else 0x7F)
            at += index_bytes


def _aperture(box: memoryview, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the rectangle that a clap box describes by its size and its centre's distance from that of the photo."""
    numbers = struct.unpack_from(">IIIIiIiI", box)
    width, height, right_by, down_by = (Fraction(*numbers[at : at + 2]) for at in (0, 2, 4, 6))
    left, top = (size[0] - width) / 2 + right_by, (size[1] - height) / 2 + down_by
    crop = round(left), round(top), round(left + width), round(top + height)
    lies_inside = 0 <= crop[0] < crop[2] <= size[0] and 0 <= crop[1] < crop[3] <= size[1]
    return crop if lies_inside else None
