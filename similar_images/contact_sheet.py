"""Many photos on one picture, each with a line below it."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from similar_images.images import ImageReadError, Source, source_name, thumbnail

SIDE = 160
MARGIN = 12
LINE = 18
FONT_SIZE = 13


def contact_sheet(photos: Sequence[tuple[Source, str]], columns: int = 6) -> bytes:
    """Return a PNG that shows photos row by row.

    Args:
        photos: each with the line to write below it, which is cut where it is too long.
        columns: photos a row.
    """
    width, height = SIDE + MARGIN, SIDE + LINE + MARGIN
    rows = -(-len(photos) // columns)
    sheet = Image.new("RGB", (min(columns, len(photos)) * width + MARGIN, rows * height + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for number, (photo, line) in enumerate(photos):
        left, top = MARGIN + number % columns * width, MARGIN + number // columns * height
        try:
            picture = Image.open(io.BytesIO(thumbnail(photo, SIDE)), formats=["JPEG"])
            sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
        except ImageReadError as error:
            draw.text((left, top), _fitting(error.reason, font), "grey", font)
        draw.text((left, top + SIDE + 2), _fitting(source_name(line), font), "black", font)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()


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
