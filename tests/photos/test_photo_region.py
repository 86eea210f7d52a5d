"""Pictures that are made around a photo: its place is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from similar_images.photos.images import read_image
from similar_images.photos.photo_region import photo_region

INK, PAPER, NIGHT = (30, 30, 30), (250, 250, 250), (18, 18, 20)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return blurred colours with grain on them: no line is empty, no edge straight."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(colours) + grain, 0, 255).astype(np.uint8))


def thing(width: int, height: int) -> Image.Image:
    """Return a photo of a thing on white."""
    picture = Image.new("RGB", (width, height), "white")
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse((width // 4, height // 5, 3 * width // 4, 4 * height // 5), 255)
    picture.paste(photo(width, height), mask=mask)
    return picture


def text(page: Image.Image, left: int, top: int, bottom: int, colour: tuple[int, int, int] = INK) -> None:
    words = "the photo that we took in the street last summer"
    for y in range(top, bottom - 20, 24):
        ImageDraw.Draw(page).text((left, y), words, colour, ImageFont.load_default(17))


def region(page: Image.Image) -> tuple[int, ...] | None:
    """Return the box that is found, in pixels."""
    box = photo_region(np.asarray(page))
    return box and tuple(round(edge * side) for edge, side in zip(box, page.size * 2, strict=True))


@pytest.mark.parametrize("fill", ["black", "white", (90, 30, 60)])
@pytest.mark.parametrize(("width", "height", "at"), [(500, 900, (0, 250)), (1100, 400, (303, 0))])
def test_region_of_a_letterboxed_photo_has_its_very_edges(
    fill: str, width: int, height: int, at: tuple[int, int]
) -> None:
    page, inside = Image.new("RGB", (width, height), fill), photo(500, 400)
    page.paste(inside, at)
    assert region(page) == (*at, at[0] + 500, at[1] + 400)


@pytest.mark.parametrize("inside", [photo(360, 300), thing(360, 300)], ids=["photo", "thing on white"])
def test_region_of_a_photo_beside_text_leaves_the_text_out(inside: Image.Image) -> None:
    page = Image.new("RGB", (900, 800), NIGHT)
    ImageDraw.Draw(page).rectangle((0, 0, 900, 60), (60, 60, 70))
    text(page, 40, 80, 190, PAPER)
    text(page, 450, 201, 500, PAPER)
    text(page, 40, 520, 780, PAPER)
    page.paste(inside, (41, 201))
    assert region(page) == (41, 201, 401, 501)


def test_region_of_a_frame_with_a_mat_is_the_photo_in_both() -> None:
    page = Image.new("RGB", (640, 520), (70, 40, 20))
    page.paste(PAPER, (30, 30, 610, 490))
    page.paste(photo(440, 320), (100, 100))
    assert region(page) == (100, 100, 540, 420)


def test_region_of_the_largest_of_several_photos_is_taken() -> None:
    page = Image.new("RGB", (1000, 700), PAPER)
    page.paste(photo(600, 450), (40, 100))
    for number in range(3):
        page.paste(photo(200, 180, number + 1), (720, 60 + 200 * number))
    assert region(page) == (40, 100, 640, 550)


def test_region_of_several_alike_is_none() -> None:
    page = Image.new("RGB", (1000, 700), PAPER)
    for number in range(4):
        page.paste(photo(400, 280, number), (50 + 460 * (number % 2), 40 + 330 * (number // 2)))
    assert region(page) is None


def sea() -> Image.Image:
    picture = Image.new("RGB", (600, 400), (170, 200, 240))
    picture.paste(photo(600, 180), (0, 220))
    return picture


def written() -> Image.Image:
    picture = Image.new("RGB", (700, 900), PAPER)
    text(picture, 60, 50, 850)
    return picture


def thinly_framed() -> Image.Image:
    picture = Image.new("RGB", (516, 416), "black")
    picture.paste(photo(500, 400), (8, 8))
    return picture


@pytest.mark.parametrize("picture", [photo(600, 400), thing(600, 400), sea(), written(), thinly_framed()])
def test_region_of_a_picture_that_is_no_photo_in_another_is_none(picture: Image.Image) -> None:
    assert region(picture) is None


@pytest.mark.parametrize(
    "shape", [(0, 0), (1, 1), (1, 3000), (3000, 1), (2, 2), (7, 900), (30, 30), (385, 384), (5000, 4000)]
)
@pytest.mark.parametrize("kind", ["flat", "noise", "half"])
def test_region_of_any_picture_is_a_box_inside_it_or_none(shape: tuple[int, int], kind: str) -> None:
    pixels = np.full((*shape, 3), 200, np.uint8)
    if kind == "noise":
        pixels[:] = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    if kind == "half":
        pixels[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = (
            np.arange(shape[1] // 2 - shape[1] // 4)[None, :, None] % 256
        )
    before = pixels.copy()
    box = photo_region(pixels)
    assert box is None or (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1)
    assert np.array_equal(pixels, before)


def test_region_of_real_photos_is_where_nine_of_ten_were_put(shared: Path) -> None:
    found = []
    for path in sorted((shared / "images" / "coco").glob("*.jpg"))[:40]:
        inside = Image.fromarray(read_image(path))
        page = Image.new("RGB", (inside.width + 200, inside.height + 500), NIGHT)
        text(page, 100, 20, 160, PAPER)
        text(page, 100, inside.height + 240, inside.height + 460, PAPER)
        page.paste(inside, (100, 200))
        found.append(
            region(inside) is None and covers(region(page), (100, 200, 100 + inside.width, 200 + inside.height))
        )
    assert np.mean(found) >= 0.9


def covers(box: tuple[int, ...] | None, truth: tuple[int, ...]) -> bool:
    """Tell whether a box is the true one but for a tenth that it may lack."""
    left, top, right, bottom = box or (0, 0, 0, 0)
    inside = left >= truth[0] and top >= truth[1] and right <= truth[2] and bottom <= truth[3]
    return inside and (right - left) * (bottom - top) >= 0.9 * (truth[2] - truth[0]) * (truth[3] - truth[1])
