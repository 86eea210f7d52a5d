"""Whether a photo that was changed still finds its original."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from similar_images.evaluation.answer_quality import AS_SET, Spaces, Units, known_vectors
from similar_images.photos.images import ImageReadError, Pixels, cropped, read_image
from similar_images.photos.photo_region import photo_region
from similar_images.progress import Progress, no_progress
from similar_images.search.gallery import Gallery

SAME = 1e-6  # cosines that differ less are of copies
GREY = (128, 128, 128)
SIDE = 640  # pixels; larger photos are shrunk to it before they are changed

Change = Callable[[Image.Image], Image.Image]
Firsts = dict[str, NDArray[np.float64]]
Vector = NDArray[np.float32]


def _recompressed(image: Image.Image) -> Image.Image:
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=30)
    return Image.open(jpeg, formats=["JPEG"])


def _on(colour: str, image: Image.Image, beside: float, above: float) -> Image.Image:
    """Return a photo with margins of a colour on all sides, given as fractions of its width and height."""
    return ImageOps.expand(image, (round(beside * image.width), round(above * image.height)), colour)


def _captioned(image: Image.Image) -> Image.Image:
    """Write over the lower fifth of a photo."""
    written, top = image.copy(), image.height * 4 // 5
    draw = ImageDraw.Draw(written)
    draw.rectangle((0, top, image.width, image.height), "black")
    draw.text((image.width / 2, top), "MONDAY AGAIN", "white", anchor="ma", font_size=max(6, image.height // 8))
    return written


def _phone(image: Image.Image) -> Image.Image:
    """Show a photo on a screen of 9 x 19.5, below its time and sender and above four buttons."""
    width, unit = image.width, max(1, image.width // 20)
    screen = Image.new("RGB", (width, max(round(width * 19.5 / 9), round(image.height * 1.3))), "white")
    screen.paste(image, (0, (screen.height - image.height) // 2))
    draw = ImageDraw.Draw(screen)
    draw.text((unit, unit), "9:41\nPhotos from Anna", "black", font_size=1.5 * unit)
    for left in range(3 * unit, width - unit, 5 * unit):
        draw.ellipse((left, screen.height - 3 * unit, left + unit, screen.height - 2 * unit), "grey")
    return screen


CHANGES: dict[str, Change] = {
    "mirrored": ImageOps.mirror,
    "half the size": lambda image: image.resize((max(1, image.width // 2), max(1, image.height // 2))),
    "JPEG quality 30": _recompressed,
    "30 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "30 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 64)),
    "middle 70 %": lambda image: cropped(image, (0.15, 0.15, 0.85, 0.85)),
    "middle 50 %": lambda image: cropped(image, (0.25, 0.25, 0.75, 0.75)),
    "turned by 30 degrees": lambda image: image.rotate(30, Image.Resampling.BILINEAR, expand=True, fillcolor=GREY),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "framed": lambda image: _on("saddlebrown", image, 0.2, 0.2),
    "captioned": _captioned,
    "letterboxed": lambda image: _on("black", image, 0, 0.3),
    "screenshot of a phone": _phone,
}


def robustness(
    gallery: Gallery,
    rows: NDArray[np.int64],
    spaces: Spaces,
    progress: Progress = no_progress,
) -> dict[str, Firsts]:
    """Return by way of searching and by change whether each photo, changed so, finds its original first.

    Args:
        gallery: the photos.
        rows: (q,) those to change; one that can't be read is left out.
        spaces: ways of comparing exactly, beside the gallery's own search.
        progress: shows how many photos have been changed.

    Returns:
        For the search as it is set and each of `spaces`, for each of `CHANGES` (read,) float64 of 0 and 1; nothing
        where no photo can be read.

    Raises:
        GalleryError, EncoderError: see `Gallery.encoder` and `known_vectors`.
    """
    rows = np.array([row for row in rows if gallery.photo_path(int(row)).is_file()], np.int64)
    encoded = list(gallery.runtime.encode_all(_changed(gallery, rows, progress))) if len(rows) else []
    if not encoded:
        return {}
    read = np.array([row for (row, _), _ in encoded])
    vectors = np.array([wholes for _, wholes in encoded])
    ways = {AS_SET: np.array([_are_found(gallery, row, wholes, photos) for (row, photos), wholes in encoded])}
    ways |= {name: _are_first(gallery, read, vectors, units) for name, units in spaces.items()}
    return {way: dict(zip(CHANGES, firsts.T.astype(np.float64), strict=True)) for way, firsts in ways.items()}


def _changed(
    gallery: Gallery, rows: NDArray[np.int64], progress: Progress
) -> Iterator[tuple[tuple[int, list[Vector | None]], Pixels]]:
    """Yield each row that can be read, the vectors of photos found in its changes, and all these changes."""
    with ThreadPoolExecutor() as pool:
        for number, row in enumerate(rows.tolist(), 1):
            try:
                image = Image.fromarray(read_image(gallery.photo_path(row), (SIDE, SIDE)))
            except ImageReadError:
                continue
            finally:
                progress("changing", number, len(rows))
            image.thumbnail((SIDE, SIDE))
            changed = list(pool.map(lambda change, image: change(image), CHANGES.values(), repeat(image)))
            photos = list(pool.map(partial(_photo_in, gallery), changed))
            yield (row, photos), np.stack(list(pool.map(gallery.encoder.pixels, changed)))


def _photo_in(gallery: Gallery, picture: Image.Image) -> Vector | None:
    """Return the vector that a search uses for a picture in which it may find a photo; None for that of the whole."""
    return gallery.photo_in(picture)[0] if photo_region(read_image(picture)) else None


def _are_found(gallery: Gallery, row: int, wholes: NDArray[np.float32], photos: list[Vector | None]) -> list[bool]:
    """Tell for each change of a photo whether the gallery's search finds it first, alone or with copies of it."""
    asked = [whole if photo is None else photo for whole, photo in zip(wholes, photos, strict=True)]
    firsts = [gallery.search(vector, 1)[0].image_id for vector in asked]
    copies = np.abs(gallery.units(firsts) - gallery.units([row])).max(axis=1) <= SAME
    return [first == row or bool(is_copy) for first, is_copy in zip(firsts, copies, strict=True)]


def _are_first(
    gallery: Gallery, rows: NDArray[np.int64], vectors: NDArray[np.float32], units: Units
) -> NDArray[np.bool_]:
    """Tell whether each of rows (q,) is the most similar photo to its changes (q, c, d), compared with all."""
    asked = units(vectors.reshape(-1, vectors.shape[2]))
    originals = units(np.stack([gallery.vector(int(row)) for row in rows]))
    own = np.vecdot(asked, originals.repeat(vectors.shape[1], axis=0))
    best = np.full(len(asked), -np.inf, np.float32)
    for chunk in known_vectors(gallery):
        best = np.maximum(best, (asked @ units(chunk[chunk.any(axis=1)]).T).max(axis=1, initial=-np.inf))
    return np.asarray(own >= best - SAME).reshape(vectors.shape[:2])
