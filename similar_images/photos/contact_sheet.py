"""Many photos on one picture, each with a line below it."""

import io
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from similar_images.photos.images import ImageReadError, Source, source_name, thumbnail

SIDE = 160
MARGIN = 12
LINE = 18
FONT_SIZE = 13
SIGN = 22
RIGHT, WRONG = "#1a7f37", "#cf222e"
TICK = [[(0.2, 0.5), (0.45, 0.75), (0.8, 0.25)]]
CROSS = [[(0.2, 0.2), (0.8, 0.8)], [(0.2, 0.8), (0.8, 0.2)]]


def contact_sheet(
    photos: Sequence[tuple[Source, str]],
    columns: int = 6,
    marks: Sequence[bool | None] = (),
    file_format: Literal["PNG", "JPEG"] = "PNG",
) -> bytes:
    """Return a picture that shows photos row by row.

    Args:
        photos: each with the line to write below it, which is cut where it is too long.
        columns: photos per row.
        marks: for each photo True for right (a green border and a tick), False for wrong (a red one and a cross), None
            for neither; none at all where no photo is either.
        file_format: what to return.
    """
    width, height = SIDE + MARGIN, SIDE + LINE + MARGIN
    rows = -(-len(photos) // columns)
    sheet = Image.new("RGB", (min(columns, len(photos)) * width + MARGIN, rows * height + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for number, ((photo, line), is_right) in enumerate(zip_longest(photos, marks)):
        left, top = MARGIN + number % columns * width, MARGIN + number // columns * height
        try:
            picture = Image.open(io.BytesIO(thumbnail(photo, SIDE)), formats=["JPEG"])
            sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
        except ImageReadError as error:
            draw.text((left, top), _fitting(error.reason, font), "grey", font)
        if is_right is not None:
            _mark(draw, left, top, is_right)
        draw.text((left, top + SIDE + 2), _fitting(source_name(line), font), "black", font)
    file = io.BytesIO()
    sheet.save(file, file_format, quality=85)
    return file.getvalue()


def _mark(draw: ImageDraw.ImageDraw, left: int, top: int, is_right: bool) -> None:
    """Draw a border around a photo, and its sign in the upper left corner."""
    colour = RIGHT if is_right else WRONG
    draw.rectangle((left - 4, top - 4, left + SIDE + 3, top + SIDE + 3), outline=colour, width=4)
    draw.rectangle((left, top, left + SIGN, top + SIGN), colour)
    for stroke in TICK if is_right else CROSS:
        draw.line([(left + x * SIGN, top + y * SIGN) for x, y in stroke], "white", 3)


def _fitting(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut the middle out of a line that is wider than a photo."""
    if font.getlength(line) <= SIDE:
        return line
    kept = len(line)
    while kept > 2 and font.getlength(_shortened(line, kept)) > SIDE:
        kept -= 1
    return _shortened(line, kept)


def _shortened(line: str, kept: int) -> str:
    return f"{line[: kept // 2]}…{line[len(line) - (kept + 1) // 2 :]}"
