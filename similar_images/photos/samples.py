"""A sample gallery that needs no download: some hundreds of drawn pictures of 25 labelled kinds, always the same."""

import colorsys
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = (320, 240)
SCALE = 2  # drawn larger, then reduced: smooth edges
WIDTH, HEIGHT = SIZE[0] * SCALE, SIZE[1] * SCALE
PER_KIND = 16
SEED = 20

Colour = tuple[int, int, int]
Draw = ImageDraw.ImageDraw
Random = random.Random


def draw_samples(folder: Path, per_kind: int = PER_KIND) -> None:
    """Draw the gallery into `folder`, which appears whole or not at all: KIND/00.jpg, KIND/01.jpg, ...

    Args:
        folder: made by this call; it must not exist.
        per_kind: pictures of each kind.
    """
    unfinished = folder.with_name(folder.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    for kind, paint in KINDS.items():
        (unfinished / kind).mkdir(parents=True)
        for number in range(per_kind):
            picture = draw_sample(paint, Random(f"{SEED} {kind} {number}"))
            picture.save(unfinished / kind / f"{number:02d}.jpg", quality=88)
    unfinished.rename(folder)


def draw_sample(paint: Callable[[Image.Image, Draw, Random], None], rng: Random) -> Image.Image:
    """Return one picture of a kind, 320 x 240 RGB."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    paint(image, ImageDraw.Draw(image), rng)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _sky(image: Image.Image, top: Colour, bottom: Colour) -> None:
    for y in range(HEIGHT):
        share = y / HEIGHT
        line = tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        image.paste(line, (0, y, WIDTH, y + 1))


def _disc(draw: Draw, x: float, y: float, radius: float, colour: Colour | str) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _day(image: Image.Image, rng: Random) -> None:
    hue = rng.uniform(0.54, 0.6)
    _sky(image, _hsv(hue, 0.6, 0.95), _hsv(hue, 0.15, 1))


def _turned(x: float, y: float, radius: float, angle: float) -> tuple[float, float]:
    return x + radius * math.cos(angle), y + radius * math.sin(angle)


def _ridge(rng: Random, base: float, rough: float, steps: int = 24) -> list[tuple[float, float]]:
    points = [(WIDTH * i / steps, base - abs(rng.gauss(0, rough))) for i in range(steps + 1)]
    return [(0, HEIGHT), *points, (WIDTH, HEIGHT)]


def _sunset(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(rng.uniform(0.7, 0.95), 0.7, 0.5), _hsv(rng.uniform(0.02, 0.12), 0.8, 1))
    horizon = rng.uniform(0.6, 0.75) * HEIGHT
    _disc(draw, rng.uniform(0.2, 0.8) * WIDTH, horizon - rng.uniform(0, 60), rng.uniform(40, 70), (255, 240, 190))
    draw.rectangle((0, horizon, WIDTH, HEIGHT), fill=_hsv(rng.uniform(0.6, 0.8), 0.6, 0.22))


def _night(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, (4, 6, 20), _hsv(rng.uniform(0.6, 0.7), 0.7, 0.3))
    for _ in range(rng.randint(120, 260)):
        _disc(draw, rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.choice((1, 1, 2, 3)), (255, 255, 230))
    x, y, radius = rng.uniform(80, WIDTH - 80), rng.uniform(80, 220), rng.uniform(30, 60)
    _disc(draw, x, y, radius, (245, 243, 215))
    _disc(draw, x + radius * 0.5, y - radius * 0.2, radius * 0.9, (8, 10, 34))


def _sea(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    horizon, hue = int(rng.uniform(0.35, 0.5) * HEIGHT), rng.uniform(0.5, 0.58)
    for y in range(horizon, HEIGHT, 14):
        wave = [(x, y + 7 * math.sin(x / rng.uniform(28, 34) + y)) for x in range(0, WIDTH + 20, 20)]
        colour = _hsv(hue, 0.8, 0.85 - 0.5 * (y - horizon) / HEIGHT)
        draw.polygon([*wave, (WIDTH, HEIGHT), (0, HEIGHT)], fill=colour)


def _mountains(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    for depth in range(3):
        base = HEIGHT * (0.62 + 0.14 * depth)
        draw.polygon(_ridge(rng, base, 130 - 30 * depth, 9), fill=_hsv(rng.uniform(0.56, 0.66), 0.3, 0.7 - 0.2 * depth))


def _forest(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(0.55, 0.2, 0.9), _hsv(0.3, 0.3, 0.6))
    for depth in range(3):
        for _ in range(14):
            x, foot, tall = rng.uniform(0, WIDTH), HEIGHT * (0.7 + 0.15 * depth), rng.uniform(160, 260)
            green = _hsv(rng.uniform(0.3, 0.4), 0.7, rng.uniform(0.4, 0.5) - 0.1 * depth)
            draw.polygon([(x, foot - tall), (x - tall / 4, foot), (x + tall / 4, foot)], fill=green)
    draw.rectangle((0, HEIGHT * 0.96, WIDTH, HEIGHT), fill=(38, 50, 24))


def _desert(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(0.56, 0.5, 1), (255, 236, 205))
    for depth in range(4):
        base, phase = HEIGHT * (0.5 + 0.13 * depth), rng.uniform(0, 6)
        dune = [(x, base + 40 * math.sin(x / rng.uniform(118, 122) + phase)) for x in range(0, WIDTH + 10, 10)]
        draw.polygon([*dune, (WIDTH, HEIGHT), (0, HEIGHT)], fill=_hsv(0.1, 0.5 + 0.1 * depth, 0.95 - 0.12 * depth))
    for _ in range(rng.randint(1, 3)):
        x, foot = rng.uniform(60, WIDTH - 60), rng.uniform(0.7, 0.9) * HEIGHT
        draw.line([(x, foot), (x, foot - 130)], fill=(40, 110, 50), width=26)
        draw.line([(x, foot - 50), (x + 44, foot - 50), (x + 44, foot - 100)], fill=(40, 110, 50), width=18)


def _city(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(rng.uniform(0.58, 0.68), 0.6, 0.35), _hsv(rng.uniform(0.02, 0.1), 0.4, 0.9))
    x = 0
    while x < WIDTH:
        wide, top = rng.randint(50, 100), rng.uniform(0.2, 0.65) * HEIGHT
        draw.rectangle((x, top, x + wide, HEIGHT), fill=_hsv(0.62, 0.25, rng.uniform(0.15, 0.3)))
        for left in range(x + 8, x + wide - 10, 18):
            for y in range(int(top) + 12, HEIGHT, 26):
                if rng.random() < 0.6:
                    draw.rectangle((left, y, left + 9, y + 13), fill=(255, 220, 120))
        x += wide + rng.randint(0, 8)


def _house(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    draw.rectangle((0, HEIGHT * 0.75, WIDTH, HEIGHT), fill=_hsv(rng.uniform(0.25, 0.35), 0.6, 0.6))
    x, wide, top, foot = rng.uniform(90, 200), rng.uniform(240, 320), rng.uniform(190, 240), HEIGHT * 0.85
    draw.rectangle((x, top, x + wide, foot), fill=_hsv(rng.random(), 0.3, 0.95))
    draw.polygon(
        [(x - 30, top), (x + wide / 2, top - 120), (x + wide + 30, top)], fill=_hsv(rng.uniform(0, 0.06), 0.7, 0.65)
    )
    draw.rectangle((x + wide * 0.42, foot - 110, x + wide * 0.6, foot), fill=(96, 60, 36))
    for place in (0.1, 0.7):
        left = x + wide * place
        draw.rectangle((left, top + 40, left + 54, top + 94), fill=(190, 225, 250), outline="white", width=6)


def _face(image: Image.Image, draw: Draw, rng: Random) -> None:
    image.paste(_hsv(rng.random(), 0.3, 0.9), (0, 0, WIDTH, HEIGHT))
    x, y, radius = WIDTH / 2 + rng.uniform(-60, 60), HEIGHT / 2 + 20, rng.uniform(140, 170)
    _disc(draw, x, y - 30, radius * 1.08, _hsv(rng.choice((0.08, 0.1, 0.05)), 0.8, rng.uniform(0.1, 0.7)))
    _disc(draw, x, y, radius, _hsv(0.07, rng.uniform(0.25, 0.6), rng.uniform(0.55, 1)))
    for side in (-1, 1):
        _disc(draw, x + side * radius * 0.38, y - 30, radius * 0.15, "white")
        _disc(draw, x + side * radius * 0.38 + rng.uniform(-6, 6), y - 28, radius * 0.08, (40, 30, 30))
    draw.arc((x - 70, y + 5, x + 70, y + 95), 15, 165, fill=(170, 40, 50), width=12)


def _flower(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(0.3, 0.4, 0.8), _hsv(0.32, 0.7, 0.4))
    for _ in range(rng.randint(1, 3)):
        x, y, size, petals = rng.uniform(150, 490), rng.uniform(130, 260), rng.uniform(60, 90), rng.randint(6, 11)
        colour, turn = _hsv(rng.choice((0.0, 0.14, 0.8, 0.92, 0.97)), rng.uniform(0.5, 0.9), 1), rng.random()
        draw.line([(x, y), (x, HEIGHT)], fill=(40, 110, 40), width=12)
        for petal in range(petals):
            _disc(draw, *_turned(x, y, size, turn + petal * 2 * math.pi / petals), size * 0.46, colour)
        _disc(draw, x, y, size * 0.55, (120, 70, 20))


def _fish(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(0.52, 0.6, 0.8), _hsv(0.6, 0.9, 0.35))
    for _ in range(rng.randint(2, 5)):
        x, y, size, side = rng.uniform(90, 550), rng.uniform(70, 400), rng.uniform(50, 90), rng.choice((-1, 1))
        colour = _hsv(rng.choice((0.04, 0.1, 0.15, 0.95)), 0.85, 1)
        tail = x - side * size * 1.6
        draw.polygon([(x - side * size * 0.8, y), (tail, y - size * 0.5), (tail, y + size * 0.5)], fill=colour)
        draw.ellipse((x - size, y - size * 0.55, x + size, y + size * 0.55), fill=colour)
        _disc(draw, x + side * size * 0.6, y - size * 0.12, size * 0.13, "white")
        _disc(draw, x + side * size * 0.63, y - size * 0.12, size * 0.07, "black")


def _car(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    road = HEIGHT * rng.uniform(0.68, 0.74)
    draw.rectangle((0, road, WIDTH, HEIGHT), fill=(92, 92, 96))
    for x in range(0, WIDTH, 120):
        draw.rectangle((x, HEIGHT * 0.9, x + 60, HEIGHT * 0.92), fill="white")
    left, y, colour = rng.uniform(80, 220), road - 10, _hsv(rng.random(), 0.85, 0.85)
    draw.polygon([(left + 80, y - 70), (left + 125, y - 140), (left + 250, y - 140), (left + 300, y - 70)], fill=colour)
    draw.polygon(
        [(left + 105, y - 72), (left + 135, y - 126), (left + 240, y - 126), (left + 274, y - 72)], fill=(200, 230, 250)
    )
    draw.rounded_rectangle((left, y - 75, left + 370, y + 20), 24, fill=colour)
    for wheel in (85, 285):
        _disc(draw, left + wheel, y + 22, 40, (25, 25, 28))
        _disc(draw, left + wheel, y + 22, 18, (190, 190, 195))


def _balloons(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    for _ in range(rng.randint(3, 8)):
        x, y, size = rng.uniform(60, 580), rng.uniform(70, 260), rng.uniform(36, 56)
        draw.line([(x, y + size), (x + rng.uniform(-20, 20), y + size * 4)], fill=(90, 90, 90), width=3)
        draw.ellipse((x - size, y - size * 1.2, x + size, y + size * 1.2), fill=_hsv(rng.random(), 0.85, 0.95))
        _disc(draw, x - size * 0.35, y - size * 0.5, size * 0.18, "white")


def _clock(image: Image.Image, draw: Draw, rng: Random) -> None:
    image.paste(_hsv(rng.random(), 0.25, rng.uniform(0.5, 0.9)), (0, 0, WIDTH, HEIGHT))
    x, y, radius = WIDTH / 2 + rng.uniform(-80, 80), HEIGHT / 2, rng.uniform(160, 210)
    _disc(draw, x, y, radius, _hsv(rng.random(), 0.5, 0.35))
    _disc(draw, x, y, radius * 0.9, (250, 250, 244))
    for hour in range(12):
        angle = hour * math.pi / 6
        draw.line(
            [_turned(x, y, radius * 0.74, angle), _turned(x, y, radius * 0.84, angle)], fill=(30, 30, 30), width=9
        )
    for length, width in ((0.45, 14), (0.68, 9)):
        draw.line([(x, y), _turned(x, y, radius * length, rng.uniform(0, 6.28))], fill=(30, 30, 30), width=width)


def _checkerboard(image: Image.Image, draw: Draw, rng: Random) -> None:
    side, light, dark = (
        rng.choice((40, 60, 80)),
        _hsv(rng.random(), 0.15, 1),
        _hsv(rng.random(), 0.6, rng.uniform(0.1, 0.5)),
    )
    for x in range(0, WIDTH, side):
        for y in range(0, HEIGHT, side):
            draw.rectangle((x, y, x + side, y + side), fill=dark if (x + y) // side % 2 else light)


def _stripes(image: Image.Image, draw: Draw, rng: Random) -> None:
    slant, width, hue = rng.uniform(-300, 300), rng.randint(24, 60), rng.random()
    colours = [_hsv(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.3, 0.9), rng.uniform(0.5, 1)) for _ in range(3)]
    for number, x in enumerate(range(-400, WIDTH + 400, width)):
        corners = [(x, 0), (x + width, 0), (x + width + slant, HEIGHT), (x + slant, HEIGHT)]
        draw.polygon(corners, fill=colours[number % 3])


def _dots(image: Image.Image, draw: Draw, rng: Random) -> None:
    image.paste(_hsv(rng.random(), 0.2, 1), (0, 0, WIDTH, HEIGHT))
    step, colour = rng.randint(56, 96), _hsv(rng.random(), 0.8, 0.8)
    for row, y in enumerate(range(0, HEIGHT + step, step)):
        for x in range(0, WIDTH + step, step):
            _disc(draw, x + row % 2 * step / 2, y, step * 0.27, colour)


def _spiral(image: Image.Image, draw: Draw, rng: Random) -> None:
    image.paste(_hsv(rng.random(), 0.2, 0.97), (0, 0, WIDTH, HEIGHT))
    x, y, pitch, side = WIDTH / 2, HEIGHT / 2, rng.uniform(7, 11), rng.choice((-1, 1))
    curve = [_turned(x, y, pitch * step / 10, side * step / 10) for step in range(600)]
    draw.line(curve, fill=_hsv(rng.random(), 0.8, 0.6), width=rng.randint(12, 26), joint="curve")


def _rainbow(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    x, foot, radius = WIDTH / 2 + rng.uniform(-120, 120), HEIGHT * rng.uniform(0.8, 0.95), rng.uniform(260, 330)
    for band in range(7):
        size = radius - band * 20
        draw.arc((x - size, foot - size, x + size, foot + size), 180, 360, fill=_hsv(band * 0.13, 0.8, 1), width=21)
    draw.rectangle((0, foot, WIDTH, HEIGHT), fill=_hsv(0.3, 0.6, 0.55))


def _planet(image: Image.Image, draw: Draw, rng: Random) -> None:
    image.paste((6, 6, 14), (0, 0, WIDTH, HEIGHT))
    for _ in range(90):
        _disc(draw, rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), 1.5, "white")
    x, y, radius, hue = WIDTH / 2 + rng.uniform(-90, 90), HEIGHT / 2, rng.uniform(90, 140), rng.random()
    for band in range(40):  # from the rim inwards, lighter towards the sun
        share = band / 40
        _disc(
            draw,
            x - radius * 0.3 * share,
            y - radius * 0.3 * share,
            radius * (1 - share),
            _hsv(hue, 0.6, 0.35 + 0.6 * share),
        )
    draw.arc(
        (x - radius * 1.8, y - radius * 0.4, x + radius * 1.8, y + radius * 0.4),
        -20,
        200,
        fill=_hsv(hue, 0.2, 0.9),
        width=12,
    )


def _bricks(image: Image.Image, draw: Draw, rng: Random) -> None:
    image.paste((205, 200, 190), (0, 0, WIDTH, HEIGHT))
    tall, wide, hue = rng.randint(36, 52), rng.randint(90, 130), rng.uniform(0, 0.07)
    for row, y in enumerate(range(0, HEIGHT, tall)):
        for x in range(-(row % 2) * wide // 2, WIDTH, wide):
            draw.rectangle(
                (x, y, x + wide - 7, y + tall - 7), fill=_hsv(hue, rng.uniform(0.5, 0.75), rng.uniform(0.45, 0.75))
            )


def _chart(image: Image.Image, draw: Draw, rng: Random) -> None:
    bars, hue = rng.randint(5, 9), rng.random()
    draw.line([(60, 40), (60, HEIGHT - 60), (WIDTH - 40, HEIGHT - 60)], fill=(60, 60, 60), width=6)
    for bar in range(bars):
        x, wide = 90 + bar * 500 / bars, 340 / bars
        draw.rectangle((x, rng.uniform(70, 360), x + wide, HEIGHT - 64), fill=_hsv(hue + bar * 0.02, 0.7, 0.85))


def _sailboat(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sea(image, draw, rng)
    x, y, size = rng.uniform(200, 440), rng.uniform(270, 330), rng.uniform(90, 130)
    draw.polygon([(x - 8, y - size * 1.9), (x - 8, y - 10), (x - size, y - 10)], fill=(250, 250, 245))
    draw.polygon(
        [(x + 8, y - size * 1.6), (x + 8, y - 10), (x + size * 0.7, y - 10)], fill=_hsv(rng.random(), 0.7, 0.9)
    )
    hull = [(x - size, y), (x + size, y), (x + size * 0.6, y + size * 0.4), (x - size * 0.6, y + size * 0.4)]
    draw.polygon(hull, fill=_hsv(rng.uniform(0, 0.1), 0.7, 0.45))


def _snowman(image: Image.Image, draw: Draw, rng: Random) -> None:
    _sky(image, _hsv(0.6, 0.35, 0.7), (225, 232, 245))
    draw.rectangle((0, HEIGHT * 0.8, WIDTH, HEIGHT), fill=(245, 248, 255))
    x = rng.uniform(200, 440)
    for y, radius in ((360, 95), (230, 68), (130, 48)):
        _disc(draw, x, y, radius + 3, (170, 185, 210))
        _disc(draw, x, y, radius, "white")
    draw.polygon([(x, 125), (x + rng.choice((-1, 1)) * 60, 138), (x, 143)], fill=(240, 130, 30))
    draw.rectangle((x - 40, 40, x + 40, 92), fill=_hsv(rng.random(), 0.5, 0.2))
    for _ in range(rng.randint(30, 90)):
        _disc(draw, rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), 4, "white")


def _clouds(image: Image.Image, draw: Draw, rng: Random) -> None:
    _day(image, rng)
    for _ in range(rng.randint(3, 6)):
        x, y, grey = rng.uniform(0, WIDTH), rng.uniform(60, 380), rng.randint(225, 255)
        for _ in range(9):
            _disc(draw, x + rng.gauss(0, 60), y + rng.gauss(0, 16), rng.uniform(26, 56), (grey, grey, grey))
    image.paste(image.filter(ImageFilter.GaussianBlur(5)))


KINDS: dict[str, Callable[[Image.Image, Draw, Random], None]] = {
    paint.__name__.removeprefix("_"): paint
    for paint in (
        _balloons, _bricks, _car, _chart, _checkerboard, _city, _clock, _clouds, _desert, _dots, _face, _fish,
        _flower, _forest, _house, _mountains, _night, _planet, _rainbow, _sailboat, _sea, _snowman, _spiral,
        _stripes, _sunset,
    )
}  # fmt: skip
