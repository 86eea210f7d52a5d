from pathlib import Path

import numpy as np
from PIL import Image

from similar_images.photos.samples import KINDS, draw_samples


def test_draw_samples_are_varied_and_always_the_same(photos: Path, tmp_path: Path) -> None:
    draw_samples(tmp_path / "again", per_kind=3)
    names = sorted(path.relative_to(photos) for path in photos.rglob("*.jpg"))
    assert len(names) == 3 * len(KINDS) and len(KINDS) >= 20
    pictures = {name: np.asarray(Image.open(photos / name)) for name in names}
    assert all(np.array_equal(pictures[name], np.asarray(Image.open(tmp_path / "again" / name))) for name in names)
    assert len({picture.tobytes() for picture in pictures.values()}) == len(names)


def test_draw_samples_leaves_no_half_drawn_folder(tmp_path: Path) -> None:
    (tmp_path / "samples.part" / "car").mkdir(parents=True)  # what an interrupted run left
    draw_samples(tmp_path / "samples", per_kind=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples"]
