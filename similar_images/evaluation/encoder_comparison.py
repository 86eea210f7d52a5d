"""Encoders side by side on the photos of a gallery: quality, time and size."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from similar_images.encoding.conversion import converted_before
from similar_images.encoding.encoders import EncoderSpec, label, load_encoder
from similar_images.encoding.runtimes import Runtime, open_runtime
from similar_images.evaluation.answer_quality import AnswerQuality, answer_quality, known_vectors
from similar_images.evaluation.labels import Labels
from similar_images.extraction.extraction import earlier_rows, extract, sample_photos
from similar_images.progress import Progress
from similar_images.search.gallery import Gallery
from similar_images.store.measure import Measure
from similar_images.store.vectors import SUFFIX, normalise, open_vectors

TIMED_PHOTOS = 64


@dataclass(frozen=True)
class EncoderFigures:
    """Quality, time and size of an encoder.

    Attributes:
        name: what it is called, with layer, weights where they are untrained, runtime and precision.
        d: dimension of its vectors, 4 * d bytes per photo.
        milliseconds: per photo, in batches, with nothing to decode; None where encoder or photos are not at hand.
        quality: its answers, by the centred cosine of its vectors, see `Measure.about`.
    """

    name: str
    d: int
    milliseconds: float | None
    quality: AnswerQuality


def parse_spec(text: str) -> EncoderSpec:
    """Return the encoder that NAME, NAME:LAYER, NAME=WEIGHTS or NAME:LAYER=WEIGHTS asks for."""
    name, _, weights = text.partition("=")
    name, _, layer = name.partition(":")
    return EncoderSpec(name, layer or None, weights or "imagenet")


def own_figures(gallery: Gallery, labels: Labels, rows: NDArray[np.int64], k: int) -> EncoderFigures:
    """Return the figures of the gallery's own encoder, by its stored vectors.

    Args:
        gallery: which one.
        labels: of the photos.
        rows: the queries, see `answer_quality`.
        k: of precision@k.

    Raises:
        StoreError, EncoderError: see `Gallery.encoder` and `known_vectors`.
    """
    quality = answer_quality(centred_units(np.concatenate(list(known_vectors(gallery)))), labels, rows, k)
    if not gallery.has_encoder:
        return EncoderFigures("the gallery's own, unknown", gallery.dimension, None, quality)
    runtime = gallery.runtime
    photos = sample_photos(gallery.names, gallery.img_dir, gallery.encoder, TIMED_PHOTOS)
    name = f"{gallery.encoder_label}, {runtime.name} {runtime.precision} (the gallery's own)"
    return EncoderFigures(name, gallery.dimension, _milliseconds(runtime, photos), quality)


def try_encoder(
    spec: EncoderSpec,
    gallery: Gallery,
    labels: Labels,
    rows: NDArray[np.int64],
    k: int,
    folder: Path,
    progress: Progress,
) -> EncoderFigures:
    """Encode the photos of a gallery with another encoder, and measure its answers.

    Args:
        spec: the encoder.
        gallery: its photos and their names are taken, not its vectors.
        labels: of the photos.
        rows: the queries, see `answer_quality`; those that this encoder could not read are left out.
        k: of precision@k.
        folder: where the encoder's vectors are kept, for the next time and to go on from when interrupted.
        progress: see `extract`.

    Raises:
        EncoderError, VectorsError: see `load_encoder` and `extract`.
    """
    encoder = converted_before(spec) or load_encoder(spec)
    sample = partial(sample_photos, gallery.names, gallery.img_dir, encoder)
    stem = f"{encoder.spec.name}-{encoder.spec.layer or 'pooled'}-{encoder.weights_digest[:8]}"
    output = folder / f"{stem}{SUFFIX}"
    earlier = earlier_rows(output, overwrite=False, update=output.exists())
    runtime = open_runtime(encoder, photos=sample, earlier=earlier)
    extract(gallery.names, gallery.img_dir, output, runtime, update=output.exists(), progress=progress)
    units = centred_units(open_vectors(output).array)
    quality = answer_quality(units, labels, rows[units[rows].any(axis=1)], k)
    name = f"{label(encoder.card(output))}, {runtime.name} {runtime.precision}"
    return EncoderFigures(name, encoder.dimension, _milliseconds(runtime, sample(TIMED_PHOTOS)), quality)


def centred_units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the unit vectors (n, d) of vectors (n, d), centred by their own mean."""
    known = normalise(vectors)
    n = int(np.count_nonzero(known.any(axis=1)))
    return Measure.about(np.asarray(known.sum(axis=0, dtype=np.float64) / n, np.float32), n).units(vectors)


def _milliseconds(runtime: Runtime, photos: NDArray[np.uint8]) -> float | None:
    """Return the milliseconds per photo; the first batch, which readies the runtime, is not counted."""
    if not len(photos):
        return None
    batch = photos[: min(len(photos), runtime.batch_size)]
    runtime.encode(batch)
    began = time.perf_counter()
    for _ in range(3):
        runtime.encode(batch)
    return (time.perf_counter() - began) * 1000 / 3 / len(batch)
