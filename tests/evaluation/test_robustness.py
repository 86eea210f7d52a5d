from pathlib import Path

import numpy as np
from conftest import write_vectors
from PIL import Image

from similar_images.evaluation.answer_quality import spaces_of
from similar_images.evaluation.robustness import CHANGES, _are_found, robustness
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors


def test_changes_are_what_they_are_called() -> None:
    image = Image.new("RGB", (100, 60), (100, 100, 100))
    image.paste((200, 0, 0), (0, 0, 20, 60))
    changed = {name: change(image) for name, change in CHANGES.items()}
    assert changed["turned by 90 degrees"].size == (60, 100) and changed["half the size"].size == (50, 30)
    assert (
        changed["middle 50 %"].size == (50, 30)
        and changed["middle 70 %"].size == (70, 42)
        and changed["mirrored"].getpixel((99, 30)) == (200, 0, 0)
    )
    assert changed["30 % brighter"].getpixel((50, 30)) == (130, 130, 130)
    assert changed["30 % darker"].getpixel((50, 30)) == (70, 70, 70)
    assert changed["JPEG quality 30"].format == "JPEG" and changed["JPEG quality 30"].size == image.size
    assert changed["turned by 30 degrees"].getpixel((2, 2)) == (128, 128, 128)
    assert changed["framed"].size == (140, 84) and changed["framed"].getpixel((25, 42)) == (200, 0, 0)
    assert changed["letterboxed"].size == (100, 96) and changed["letterboxed"].getpixel((50, 10)) == (0, 0, 0)
    assert changed["captioned"].getpixel((1, 58)) == (0, 0, 0) and changed["captioned"].getpixel((1, 40)) == (200, 0, 0)
    assert changed["screenshot of a phone"].size == (100, 217)
    assert changed["screenshot of a phone"].getpixel((10, 108)) == (200, 0, 0)
    assert (200, 0, 0) != changed["blurred"].getpixel((19, 30)) != (100, 100, 100)


def test_robustness_tells_for_each_photo_whether_it_comes_first(gallery: Gallery) -> None:
    steps: list[tuple[str, int, int]] = []
    ways = robustness(gallery, np.array([0, 30, 60]), spaces_of(gallery), lambda *step: steps.append(step))
    assert steps == [("changing", done, 3) for done in (1, 2, 3)]
    assert list(ways) == ["search, as set", *spaces_of(gallery)]
    assert all(list(firsts) == list(CHANGES) for firsts in ways.values())
    half = gallery.photo_path(30)
    with Image.open(half) as image:
        hit = gallery.search(image.convert("RGB").resize((image.width // 2, image.height // 2)), 1)[0]
        pixels = gallery.encoder.pixels(image.convert("RGB").transpose(Image.Transpose.ROTATE_90))
    assert ways["search, as set"]["half the size"][1] == float(hit.image_id == 30)
    vectors = np.load(gallery.path.with_name("photos.saved_predictions.npy")).astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = gallery.runtime.encode(pixels[None])[0] / np.linalg.norm(gallery.runtime.encode(pixels[None])[0])
    for way, mean in (("centred cosine, exact", units.mean(axis=0)), ("raw cosine, exact", 0)):
        similar = (units - mean) @ (asked - mean) / np.linalg.norm(units - mean, axis=1)
        assert ways[way]["turned by 90 degrees"][1] == float(similar.argmax() == 30)


def test_photo_comes_first_together_with_its_copies(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    rows[7] = rows[3]
    vectors = write_vectors(tmp_path / "v.npy", rows)
    build_index(open_vectors(vectors), tmp_path / "v.faiss.index", IndexSettings())
    opened = Gallery.open(tmp_path / "v.faiss.index")
    wholes, photos = np.stack([rows[7] + 0.01 * rows[12], rows[12]]), [None, rows[3]]
    assert [_are_found(opened, row, wholes, photos) for row in (3, 7, 12)] == [[True] * 2, [True] * 2, [False] * 2]


def test_photos_that_are_missing_are_left_out(gallery: Gallery, tmp_path: Path) -> None:
    assert robustness(Gallery.open(gallery.path, img_dir=tmp_path), np.array([0, 1]), {}) == {}
