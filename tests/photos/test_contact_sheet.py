import io
from pathlib import Path

import numpy as np
from PIL import Image

from similar_images.photos.contact_sheet import LINE, MARGIN, SIDE, contact_sheet


def test_contact_sheet_shows_photos_row_by_row(photo: Path, tmp_path: Path) -> None:
    green = Image.new("RGB", (40, 40), (0, 200, 0))
    photos = [(photo, "first"), (green, "second"), (tmp_path / "missing.jpg", "third " * 30), (green, "fourth")]
    sheet = Image.open(io.BytesIO(contact_sheet(photos, columns=3)))
    assert sheet.format == "PNG" and sheet.size == (3 * (SIDE + MARGIN) + MARGIN, 2 * (SIDE + LINE + MARGIN) + MARGIN)
    pixels = np.asarray(sheet).astype(int)
    middle = MARGIN + SIDE // 2
    assert abs(pixels[middle, middle - 20] - [255, 0, 0]).max() < 12
    assert abs(pixels[middle, middle + SIDE + MARGIN] - [0, 200, 0]).max() < 12
    assert abs(pixels[middle + SIDE + LINE + MARGIN, middle] - [0, 200, 0]).max() < 12
    gap = pixels[:, 3 * (SIDE + MARGIN) :]
    assert (gap == 255).all(), "a long line stays below its photo"


def test_contact_sheet_marks_right_and_wrong_by_border_and_sign() -> None:
    grey = Image.new("RGB", (40, 40), "grey")
    pixels = np.asarray(Image.open(io.BytesIO(contact_sheet([(grey, "")] * 3, 3, [True, False, None]))))
    green, red = (26, 127, 55), (207, 34, 46)
    at = [MARGIN + number * (SIDE + MARGIN) for number in range(3)]
    assert [tuple(pixels[MARGIN + 100, left - 2]) for left in at] == [green, red, (255, 255, 255)]
    signs = [pixels[MARGIN : MARGIN + 22, left : left + 22] for left in at]
    assert [tuple(sign[5, 5]) for sign in signs[:2]] == [green, (255, 255, 255)], "a cross has an end there"
    assert [tuple(sign[1, 1]) for sign in signs[:2]] == [green, red] and (signs[2] == 255).all()
