from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from similar_images.evaluation.colour_histograms import colour_histograms


def test_colour_histograms_count_colours_by_cell(tmp_path: Path) -> None:
    """The left half is red, the right one blue: of three columns of cells the middle one is half and half."""
    image = Image.new("RGB", (96, 96), (255, 0, 0))
    image.paste((0, 0, 255), (48, 0, 96, 96))
    image.save(tmp_path / "photo.png")
    found = colour_histograms([tmp_path / "photo.png", tmp_path / "missing.png"]).reshape(2, 3, 3, 4, 4, 4)
    cell = 32 * 32
    length = np.sqrt(9 * cell)
    assert found[0, :, 0, 3, 0, 0].tolist() == pytest.approx([np.sqrt(cell) / length] * 3)
    assert found[0, :, 1, 3, 0, 0].tolist() == pytest.approx([np.sqrt(cell / 2) / length] * 3)
    assert found[0, :, 1, 0, 0, 3].tolist() == pytest.approx([np.sqrt(cell / 2) / length] * 3)
    assert np.count_nonzero(found[0]) == 12 and not found[1].any()
