import io
from pathlib import Path

import numpy as np
from PIL import Image

from similar_images.contact_sheet import LINE, MARGIN, SIDE, contact_sheet


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
