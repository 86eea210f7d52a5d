"""The encoder of a gallery, loaded when a query first needs it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import VectorsCard
from similar_images.encoding.conversion import converted_before, int8_file, is_whole
from similar_images.encoding.encoders import Encoder, encoder_of_card, label, load_encoder, spec_of_card
from similar_images.encoding.runtimes import (
    Runtime,
    format_of,
    open_runtime_for_queries,
    precision_for_queries,
    precision_of,
)
from similar_images.locks import one_at_a_time
from similar_images.photos.images import Pixels
from similar_images.search.errors import GalleryError


class QueryEncoder:
    """Encodes queries as the gallery's photos were encoded, for any number of threads.

    Attributes:
        card: what made the gallery's vectors.
        vectors_path: their file, which the card's paths are relative to; it may be missing.
    """

    def __init__(self, card: VectorsCard, vectors_path: Path) -> None:
        """Note what is to be loaded."""
        self.card = card
        self.vectors_path = vectors_path
        self._encoder: Encoder | None = None
        self._runtime: Runtime | None = None

    @property
    def label(self) -> str:
        """What the encoder is called, whether it is untrained, and whether it runs otherwise than for the gallery."""
        if not self.card.encoder:
            return "unknown encoder"
        own = format_of(precision_of(self.card.made_with))
        if own == "f32" or not self.card.weights_digest:
            return label(self.card)
        has_int8 = own == "int8" and is_whole(int8_file(self.vectors_path, self.encoder))
        here = precision_for_queries(self.card.made_with, int8=has_int8)
        return label(self.card) + (f", photos are encoded in {here}, the gallery was in {own}" if here != own else "")

    @property
    def encoder(self) -> Encoder:
        """The encoder.

        Raises:
            GalleryError: it is unknown.
            EncoderError: it can't be loaded.
        """
        return self._encoder or self._load_encoder()

    @one_at_a_time
    def _load_encoder(self) -> Encoder:
        self._encoder = self._encoder or self._encoder_of_card()
        return self._encoder

    def _encoder_of_card(self) -> Encoder:
        if not self.card.encoder:
            raise GalleryError(
                f"{self.vectors_path} has no card that names its encoder: only its own photos can be queries"
            )
        if self.card.weights_digest:
            return encoder_of_card(self.card, self.vectors_path)
        spec = spec_of_card(self.card, self.vectors_path)
        return converted_before(spec) or load_encoder(spec)

    @property
    def runtime(self) -> Runtime:
        """What runs the encoder.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        return self._runtime or self._open_runtime()

    @one_at_a_time
    def _open_runtime(self) -> Runtime:
        made_with = self.card.made_with
        self._runtime = self._runtime or open_runtime_for_queries(self.encoder, made_with, self.vectors_path)
        return self._runtime

    def warm_up(self) -> None:
        """Load the encoder and run it once, so that a photo is encoded in milliseconds from then on.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        if self._runtime is None:
            width, height = self.encoder.size
            self.runtime.encode(np.zeros((1, height, width, 3), np.uint8))

    def encode(self, photos: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return the vectors (p, d) float32 of photos, (height, width, 3) uint8 each, in one batch if it suits.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        return self.runtime.encode(np.stack(photos))
