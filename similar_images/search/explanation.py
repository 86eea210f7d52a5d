"""Which regions of a query and of a hit made them similar: an aid to explain a search, not a measurement."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.encoding.encoders import Encoder
from similar_images.encoding.openvino_runtime import OpenVINORuntime
from similar_images.encoding.runtimes import Runtime
from similar_images.encoding.weights import EncoderError
from similar_images.photos.images import Source, thumbnail
from similar_images.store.measure import Comparison, Measure

Floats = NDArray[np.float32]

DARKNESS = 0.2


def explain(runtime: Runtime, measure: Measure, query: Source, hit: Source, focus: float = 0) -> tuple[Floats, Floats]:
    """Return which regions of a query and of a hit made them similar, for a convolutional encoder.

    Args:
        runtime: runs the gallery's encoder.
        measure: the gallery's.
        query: the query photo, see `images.read_image`.
        hit: the photo that was found.
        focus: see `Gallery.search`.

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
    return heat_maps(measure, seen[0], seen[1], focus)


def heat_maps(measure: Measure, query: Floats, hit: Floats, focus: float = 0) -> tuple[Floats, Floats]:
    """Return what each region adds to the similarity of two photos' mean features.

    That is the photos' own similarity for encoders that average their last convolutional layer: all but VGG16, whose
    mean features are not in the space of its vectors and are compared by raw cosine.

    Args:
        measure: the gallery's.
        query: (h, w, c) float32, the features of the query's regions.
        hit: (h, w, c) likewise.
        focus: see `Gallery.search`.

    Returns:
        (h, w) float32 of the query and of the hit; the values of each add up to the similarity. Zeros where a mean
        feature has no direction.

    Source: Stylianou, Souvenir, Pless: Visualizing Deep Similarity Networks (2019), for average pooling.
    """
    channels = query.shape[2]
    if measure.components.shape[1] != channels:
        measure = Measure.raw(channels)
    of_query, of_hit = (Comparison(measure, seen.mean(axis=(0, 1)), focus) for seen in (query, hit))
    return _heat(query, of_query, of_hit), _heat(hit, of_hit, of_query)


def _heat(regions: Floats, own: Comparison, other: Comparison) -> Floats:
    """Return what each region (h, w, c) adds to the similarity of a photo to another."""
    if not own.unit.any():
        return np.zeros(regions.shape[:2], np.float32)
    h, w, c = regions.shape
    mean = np.zeros(c, np.float32) if own.measure.mean is None else own.measure.mean
    feature = regions.mean(axis=(0, 1))
    length = np.linalg.norm(feature)
    scale = h * w * np.linalg.norm(feature / length - mean) * own.length
    return np.asarray((regions @ other.towards / length - mean @ other.towards) / scale, np.float32)


def spotlights(photos: Sequence[Source], heats: Sequence[Floats], side: int) -> list[bytes]:
    """Return JPEGs of photos that are dark but where their heat maps are high.

    Args:
        photos: see `images.read_image`.
        heats: (h, w) float32 of each; all are shown on one scale, from 0 to the highest value of any.
        side: longest side of the pictures, in pixels.

    Raises:
        ImageReadError: a photo can't be read.
    """
    highest = max(0, *(float(heat.max()) for heat in heats)) or 1
    return [_spotlight(photo, np.clip(heat / highest, 0, 1), side) for photo, heat in zip(photos, heats, strict=True)]


def _spotlight(photo: Source, light: Floats, side: int) -> bytes:
    image = Image.open(io.BytesIO(thumbnail(photo, side)), formats=["JPEG"])
    mask = Image.fromarray((light * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    dark = image.point(lambda value: value * DARKNESS)
    jpeg = io.BytesIO()
    Image.composite(image, dark, mask).save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()
