#!/usr/bin/env python
"""Search a gallery by screenshots, letterboxed and framed copies of its own photos: is the original found first?

`photo_region` was written with photos of `--half 0` in view. A photo on white in a white page has no edge to be found.
"""

import io
import time

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from similar_images.evaluation.report import machine, table
from similar_images.photos.file_list import folder_of
from similar_images.photos.images import read_image
from similar_images.photos.photo_region import photo_region
from similar_images.search.gallery import Gallery

WORDS = (
    "a the photo of in our new about light with market street summer Anna shared comments today reply 12 save".split()
)
LONGEST_SIDE = 1024  # what the panel's page shrinks to


def colour(rng, low, high):
    """Return a colour whose channels lie in a range, mostly a grey."""
    shade = int(rng.integers(low, high))
    return tuple(int(np.clip(shade + rng.integers(-12, 13) * (rng.random() < 0.4), 0, 255)) for _ in range(3))


def theme(rng):
    """Return background, second background and text colour of a light or dark page."""
    if rng.random() < 0.35:
        return colour(rng, 0, 40), colour(rng, 30, 75), colour(rng, 170, 256)
    return colour(rng, 238, 256), colour(rng, 205, 245), colour(rng, 0, 110)


def write(draw, rng, box, fill, size, lines=99, columns=1):
    """Fill a box with lines of words, in one or more columns."""
    left, top, right, bottom = box
    font, pitch = ImageFont.load_default(size), round(size * rng.uniform(1.25, 1.7))
    width = (right - left) // columns
    for column in range(columns):
        x, y = left + column * width, top
        for _ in range(lines):
            if y + pitch > bottom:
                break
            end = x + (width - size) * (rng.uniform(0.3, 0.9) if rng.random() < 0.2 else 1)
            line = ""
            while font.getlength(longer := f"{line} {rng.choice(WORDS)}") < end - x:
                line = longer
            draw.text((x, y), line.strip(), fill, font)
            y += pitch


def icons(draw, rng, box, fill):
    """Draw a row of small outlined or filled shapes."""
    left, top, right, bottom = box
    side, count = bottom - top, int(rng.integers(2, 6))
    for at in range(count):
        x = left + (right - left - side) * at // max(1, count - 1)
        shape = rng.choice([draw.ellipse, draw.rectangle])
        shape((x, top, x + side, bottom), **({"fill": fill} if rng.random() < 0.5 else {"outline": fill, "width": 3}))


def placed(page, photo, area, rng, rounded=False):
    """Paste a photo into an area, keeping its proportions; return the page and the box of the photo in pixels."""
    left, top, right, bottom = area
    fitted = ImageOps.contain(photo, (max(8, right - left), max(8, bottom - top)), Image.Resampling.LANCZOS)
    x = left + (right - left - fitted.width) // 2
    mask = Image.new("L", fitted.size, 255 if not rounded else 0)
    if rounded:
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, *fitted.size), int(rng.integers(8, 40)), 255)
    page.paste(fitted, (x, top), mask)
    return page, (x, top, x + fitted.width, top + fitted.height)


def clean(photo, rng, others):
    """Return the photo as it is."""
    return photo, (0, 0, *photo.size)


def letterbox(photo, rng, others):
    """Return a photo between flat bars."""
    fill = [(0, 0, 0), (255, 255, 255), colour(rng, 0, 256)][rng.choice(3, p=[0.5, 0.3, 0.2])]
    share = rng.uniform(0.08, 0.5)
    width, height = photo.size
    sides = rng.random() < 0.5
    size = (round(width / (1 - share)), height) if sides else (width, round(height / (1 - share)))
    page = Image.new("RGB", size, fill)
    at = ((size[0] - width) // 2, (size[1] - height) // 2)
    page.paste(photo, at)
    return page, (*at, at[0] + width, at[1] + height)


def phone(photo, rng, others):
    """Return a phone's screen: status bar, app bar, the photo, buttons, text, navigation."""
    back, second, ink = theme(rng)
    width, height = 1080, int(rng.integers(1900, 2400))
    page = Image.new("RGB", (width, height), back)
    draw = ImageDraw.Draw(page)
    if rng.random() < 0.5:
        draw.rectangle((0, 0, width, 230), second)
    write(draw, rng, (40, 20, 260, 80), ink, 36, 1)
    icons(draw, rng, (820, 26, 1040, 60), ink)
    icons(draw, rng, (40, 120, 110, 180), ink)
    write(draw, rng, (150, 120, 900, 200), ink, 48, 1)
    margin = int(rng.choice([0, 0, rng.integers(10, 70)]))
    top = int(rng.integers(250, 700))
    write(draw, rng, (50, 250, width - 50, top - 20), ink, 40)
    page, box = placed(page, photo, (margin, top, width - margin, height - 420), rng, margin and rng.random() < 0.5)
    bottom = box[3]
    icons(draw, rng, (50, bottom + 40, int(rng.integers(400, 1000)), bottom + 100), ink)
    write(draw, rng, (50, bottom + 140, width - 50, height - 200), ink, int(rng.integers(32, 46)))
    draw.rectangle((0, height - 150, width, height), second)
    icons(draw, rng, (100, height - 110, width - 100, height - 50), ink)
    return page, box


def web(photo, rng, others):
    """Return a web page: header, columns of text, side bar, the photo, smaller ones."""
    back, second, ink = theme(rng)
    width, height = int(rng.integers(1100, 1700)), int(rng.integers(750, 1300))
    page = Image.new("RGB", (width, height), back)
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width, 90), (rng.choice([0, 1]) and second) or colour(rng, 20, 220))
    write(draw, rng, (30, 25, 300, 80), ink, 34, 1)
    write(draw, rng, (width // 2, 34, width - 30, 80), ink, 20, 1)
    side = int(rng.integers(180, 320))
    left_bar = rng.random() < 0.5
    begin, end = (side + 30, width - 30) if left_bar else (30, width - side - 30)
    bar = (0, 90, side, height) if left_bar else (width - side, 90, width, height)
    if rng.random() < 0.5:
        draw.rectangle(bar, second)
    y = 120
    for other in others[: rng.integers(0, 4)]:
        _, (_, _, _, y) = placed(page, other, (bar[0] + 20, y, bar[2] - 20, y + side), rng)
        y += 20
    write(draw, rng, (bar[0] + 20, y, bar[2] - 20, height - 20), ink, 18)
    write(draw, rng, (begin, 120, end, 190), ink, 46, 1)
    share, top = rng.uniform(0.45, 1), int(rng.integers(200, 360))
    write(draw, rng, (begin, 200, end, top), ink, 20)
    room = (begin, top, begin + round((end - begin) * share), max(top + 250, height - int(rng.integers(60, 400))))
    page, box = placed(page, photo, room, rng)
    if end - box[2] > 150:
        write(draw, rng, (box[2] + 20, top, end, box[3]), ink, 20)
    if box[0] - begin > 150:
        write(draw, rng, (begin, top, box[0] - 20, box[3]), ink, 20)
    write(draw, rng, (begin, box[3] + 10, end, height - 20), ink, 20, columns=int(rng.integers(1, 4)))
    return page, box


def framed(photo, rng, others):
    """Return a photo in a thick frame, with or without a passe-partout."""
    share = rng.uniform(0.08, 0.25)
    thick = [max(4, round(min(photo.size) * share * rng.uniform(0.8, 1.2))) for _ in range(2)]
    outer = Image.new("RGB", (photo.width + 2 * thick[0], photo.height + 2 * thick[1]), colour(rng, 0, 256))
    if rng.random() < 0.4:
        inner = (thick[0] // 3, thick[1] // 3, outer.width - thick[0] // 3, outer.height - thick[1] // 3)
        ImageDraw.Draw(outer).rectangle(inner, colour(rng, 225, 256))
    outer.paste(photo, (thick[0], thick[1]))
    return outer, (thick[0], thick[1], thick[0] + photo.width, thick[1] + photo.height)


def chat(photo, rng, others):
    """Return a conversation on a coloured wall, with the photo in a rounded bubble."""
    top, bottom = np.array(colour(rng, 150, 256)), np.array(colour(rng, 150, 256))
    width, height = 900, int(rng.integers(1300, 1900))
    slope = np.linspace(0, 1, height)[:, None, None]
    page = Image.fromarray(np.broadcast_to((top + (bottom - top) * slope).astype(np.uint8), (height, width, 3)).copy())
    draw, y, box = ImageDraw.Draw(page), 150, None
    draw.rectangle((0, 0, width, 120), colour(rng, 30, 250))
    write(draw, rng, (130, 40, 700, 100), colour(rng, 0, 60), 40, 1)
    at = int(rng.integers(0, 3))
    for number in range(6):
        x = int(rng.choice([30, 200]))
        bubble, ink = colour(rng, 225, 256), colour(rng, 0, 80)
        if number == at:
            draw.rounded_rectangle((x, y, x + 640, y + 640), 24, bubble)
            page, box = placed(page, photo, (x + 8, y + 8, x + 632, y + 560), rng, rounded=True)
            y = y + 660
        else:
            deep = int(rng.integers(80, 220))
            draw.rounded_rectangle((x, y, x + 560, y + deep), 24, bubble)
            write(draw, rng, (x + 20, y + 20, x + 540, y + deep), ink, 30)
            y += deep + 20
    return page, box


def slide(photo, rng, others):
    """Return a slide of a talk: title, bullets, the photo at one side."""
    back, second, ink = theme(rng)
    page = Image.new("RGB", (1280, 720), back)
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, 1280, int(rng.integers(60, 130))), second)
    write(draw, rng, (60, 40, 1000, 130), ink, 52, 1)
    left = rng.random() < 0.5
    page, box = placed(page, photo, (60, 170, 660, 660) if left else (620, 170, 1220, 660), rng)
    write(draw, rng, (700, 190, 1220, 640) if left else (60, 190, 580, 640), ink, 34)
    write(draw, rng, (60, 680, 600, 715), ink, 20, 1)
    return page, box


def viewer(photo, rng, others):
    """Return a photo viewer: dark, the photo in the middle, a strip of small ones below."""
    width, height = int(rng.integers(700, 1600)), int(rng.integers(800, 1300))
    page = Image.new("RGB", (width, height), colour(rng, 0, 50))
    draw = ImageDraw.Draw(page)
    icons(draw, rng, (30, 20, 300, 60), (220, 220, 220))
    page, box = placed(page, photo, (0, 90, width, height - 160), rng)
    for at, other in enumerate(others[: width // 130]):
        page.paste(ImageOps.fit(other, (110, 110)), (10 + at * 125, height - 130))
    return page, box


KINDS = [clean, letterbox, phone, web, framed, chat, slide, viewer]


def sent(page, rng):
    """Return a picture as it arrives: shrunk, as the bytes of a PNG or a JPEG."""
    page = ImageOps.contain(page, (LONGEST_SIDE, LONGEST_SIDE)) if max(page.size) > LONGEST_SIDE else page
    data = io.BytesIO()
    page.save(data, *(["JPEG"] if rng.random() < 0.6 else ["PNG"]), quality=int(rng.integers(75, 96)))
    return data.getvalue()


def overlap(one, other):
    """Return intersection over union of two boxes."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@click.command(context_settings={"show_default": True})
@click.argument("index", type=click.Path(exists=True, dir_okay=False))
@click.option("--queries", default=200, help="Photos, each in a picture of every kind.")
@click.option("--half", type=click.IntRange(0, 1), default=1, help="Folders: 0 every first of two, 1 every second.")
def main(index, queries, half):
    """Put photos of a gallery into pictures of many layouts, and search by these, and by the photo found in them."""
    gallery, rng = Gallery.open(index), np.random.default_rng(half)
    folders = sorted({folder_of(name) for name in gallery.names})[half::2]
    rows = [row for row in gallery.searchable_rows() if folder_of(gallery.names[row]) in folders]
    rows = rng.choice(rows, min(queries, len(rows)), replace=False)
    lines = [[kind.__name__, *measured(gallery, kind, rows)] for kind in KINDS]
    header = ["picture", "as it is", "find_photo", "kept whole", "mean overlap", "overlap above .9", "ms"]
    asked = f"`benchmarks/screenshots.py --queries {queries} --half {half}`, {len(gallery):,} photos, "
    asked += f"{gallery.encoder_label}, the original found first; {time.strftime('%Y-%m-%d')}, {machine()}."
    click.echo(f"{asked}\n\n{table(header, lines)}")


def measured(gallery, kind, rows):
    """Return one line of the table: what pictures of a kind find, and how well the photo in them is found."""
    found, whole, overlaps, times = {True: [], False: []}, [], [], []
    for at, row in enumerate(rows):
        rng = np.random.default_rng([at, KINDS.index(kind)])
        photo, *others = (photo_of(gallery, each) for each in [row, *rng.choice(rows, 12)])
        page, box = kind(photo, rng, others)
        picture = sent(page, rng) if kind is not clean else gallery.photo_path(row).read_bytes()
        pixels = read_image(picture)
        began = time.perf_counter()
        region = photo_region(pixels)
        times.append((time.perf_counter() - began) * 1000)
        for find_photo, firsts in found.items():
            firsts.append(comes_first(row, gallery.search(picture, 5, find_photo=find_photo)))
        whole.append(region is None)
        overlaps.append(overlap(region or (0, 0, 1, 1), np.array(box) / (page.size * 2)))
    figures = map(np.mean, (found[False], found[True], whole, overlaps, np.array(overlaps) > 0.9))
    return [*(f"{figure:.3f}" for figure in figures), f"{np.median(times):.1f}"]


def photo_of(gallery, row):
    """Return a photo of the gallery."""
    return Image.fromarray(read_image(gallery.photo_path(row)))


def comes_first(row, hits):
    """Tell whether a row is the first hit, alone or with copies of it."""
    return any(hit.image_id == row and hit.distance <= hits[0].distance + 1e-6 for hit in hits)


if __name__ == "__main__":
    main()
