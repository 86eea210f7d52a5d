"""Which regions of a query and of a hit made them similar: an aid to explain a search, not a measurement."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.encoders import Encoder
from similar_images.images import Source, thumbnail
from similar_images.openvino_runtime import OpenVINORuntime
from similar_images.runtimes import Runtime
from similar_images.weights import EncoderError

Floats = NDArray[np.float32]

DARKNESS = 0.2


def explain(runtime: Runtime, query: Source, hit: Source) -> tuple[Floats, Floats]:
    """Return which regions of a query and of a hit made them similar, for a convolutional encoder.

    Args:
        runtime: runs the gallery's encoder.
        query: the query photo, see `images.read_image`.
        hit: the photo that was found.

    Returns:
        Two heat maps, see `heat_maps`.

    Raises:
        EncoderError: the encoder is not convolutional, or two joined ones, or does not run with OpenVINO.
        ImageReadError: a photo can't be read.
    """
    encoder: Encoder = runtime.encoder
    if not isinstance(runtime, OpenVINORuntime) or len(encoder.spec.parts) > 1:
        raise EncoderError("only a single encoder that runs with OpenVINO can be explained")
    seen = runtime.feature_maps(np.stack([encoder.pixels(query), encoder.pixels(hit)]))
    return heat_maps(seen[0], seen[1])


def heat_maps(query: Floats, hit: Floats) -> tuple[Floats, Floats]:
    """Return what each region adds to the cosine of two photos' mean features.

    That cosine is the similarity for encoders that average their last convolutional layer: all but VGG16.

    Args:
        query: (h, w, c) float32, the features of the query's regions.
        hit: (h, w, c) likewise.

    Returns:
        (h, w) float32 of the query and of the hit; the values of each add up to the cosine.

    Source: Stylianou, Souvenir, Pless: Visualizing Deep Similarity Networks (2019), for average pooling.
    """
    means = query.mean(axis=(0, 1)), hit.mean(axis=(0, 1))
    scale = np.linalg.norm(means[0]) * np.linalg.norm(means[1]) * query.shape[0] * query.shape[1]
    if scale == 0:
        return np.zeros(query.shape[:2], np.float32), np.zeros(hit.shape[:2], np.float32)
    return query @ means[1] / scale, hit @ means[0] / scale


def spotlights(photos: Sequence[Source], heats: Sequence[Floats], side: int) -> list[bytes]:
    """Return JPEGs of photos that are dark but where their heat maps are high.

    Args:
        photos: see `images.read_image`.
        heats: (h, w) float32 of each; all are shown on one scale, from 0 to the highest value of any.
        side: longest side of the pictures, in pixels.

    Raises:
        ImageReadError: a photo can't be read.
    """
    highest = max(float(heat.max()) for heat in heats) or 1
    return [_spotlight(photo, np.clip(heat / highest, 0, 1), side) for photo, heat in zip(photos, heats, strict=True)]


def _spotlight(photo: Source, light: Floats, side: int) -> bytes:
    image = Image.open(io.BytesIO(thumbnail(photo, side)), formats=["JPEG"])
    mask = Image.fromarray((light * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    dark = image.point(lambda value: value * DARKNESS)
    jpeg = io.BytesIO()
    Image.composite(image, dark, mask).save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()
