"""Whether a photo that was changed still finds its original."""

import io
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from similar_images.gallery import Gallery
from similar_images.images import ImageReadError, cropped, read_image


def _recompressed(image: Image.Image) -> Image.Image:
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=30)
    return Image.open(jpeg, formats=["JPEG"])


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "middle 70 %": lambda image: cropped(image, (0.15, 0.15, 0.85, 0.85)),
    "half the size": lambda image: image.resize((max(1, image.width // 2), max(1, image.height // 2))),
    "JPEG quality 30": _recompressed,
    "30 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "30 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
}


def robustness(
    gallery: Gallery, rows: NDArray[np.int64], progress: Callable[[int], None] = lambda done: None
) -> dict[str, NDArray[np.float64]]:
    """Return by change whether each photo, changed so, finds its original first.

    Args:
        gallery: the photos.
        rows: (q,) those to change; one that can't be read is left out.
        progress: called with the number of photos that are done.

    Returns:
        For each of `CHANGES` (read,) float64 of 0 and 1.

    Raises:
        GalleryError, EncoderError: see `Gallery.encoder`; or the vectors file is missing.
    """
    firsts = []
    for done, row in enumerate(rows, 1):
        try:
            changed = list(_changed(gallery, int(row)))
        except ImageReadError:
            continue
        vectors = gallery.runtime.encode(np.stack([gallery.encoder.pixels(image) for image in changed]))
        firsts.append([float(_comes_first(gallery, int(row), vector)) for vector in vectors])
        progress(done)
    return dict(zip(CHANGES, np.array(firsts).reshape(-1, len(CHANGES)).T, strict=True))


def _comes_first(gallery: Gallery, row: int, vector: NDArray[np.float32]) -> bool:
    """Tell whether a photo is the nearest to a vector, alone or with copies of it."""
    first, own = gallery.distances(vector, [gallery.search(vector, 1)[0].image_id, row])
    return bool(own <= first)


def _changed(gallery: Gallery, row: int) -> Iterator[Image.Image]:
    image = Image.fromarray(read_image(gallery.photo_path(row)))
    for change in CHANGES.values():
        yield change(image)
