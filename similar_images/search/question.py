"""A query that a person refines: example photos, parts of them, marked hits; with back and forward."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from similar_images.photos.images import Box, Source, cropped
from similar_images.search.feedback import refined
from similar_images.search.gallery import Gallery

MAX_STEPS = 50


@dataclass(frozen=True, eq=False)
class Example:
    """A query photo.

    Attributes:
        name: what to call it.
        photo: the whole photo.
        vector: (d,) float32, of the selected part.
        row: where it is in the gallery, None for a photo from elsewhere.
        box: the selected part, None for the whole photo.
    """

    name: str
    photo: Source
    vector: NDArray[np.float32]
    row: int | None = None
    box: Box | None = None

    def part(self) -> Source:
        """Return the selected part."""
        return cropped(self.photo, self.box) if self.box else self.photo

    def boxed(self, gallery: Gallery, box: Box | None) -> "Example":
        """Return the example with another part of the photo selected.

        Raises:
            GalleryError, EncoderError, ImageReadError: see `Gallery.vector`.
        """
        if box is None:
            return replace(self, box=None, vector=gallery.vector(self.photo if self.row is None else self.row))
        return replace(self, box=box, vector=gallery.vector(cropped(self.photo, box)))


@dataclass(frozen=True, eq=False)
class Question:
    """Example photos, and hits that were marked.

    Attributes:
        examples: at least one.
        relevant: rows to find more of.
        irrelevant: rows to find fewer of; they are not found themselves.
    """

    examples: tuple[Example, ...]
    relevant: tuple[int, ...] = ()
    irrelevant: tuple[int, ...] = ()

    def vector(self, gallery: Gallery) -> NDArray[np.float32]:
        """Return the vector (d,) float32 to search with."""
        vectors = [example.vector for example in self.examples]
        return refined(gallery, vectors[0] if len(vectors) == 1 else vectors, self.relevant, self.irrelevant)

    def marked(self, row: int, relevant: bool) -> "Question":
        """Return the question with a mark on a row, or without it where it had this very mark."""
        had = row in (self.relevant if relevant else self.irrelevant)
        more, less = _without(self.relevant, row), _without(self.irrelevant, row)
        if had:
            return replace(self, relevant=more, irrelevant=less)
        return (
            replace(self, relevant=(*more, row), irrelevant=less)
            if relevant
            else replace(self, relevant=more, irrelevant=(*less, row))
        )


def _without(rows: Sequence[int], row: int) -> tuple[int, ...]:
    return tuple(each for each in rows if each != row)


class History:
    """The latest questions, and which of them is current."""

    def __init__(self) -> None:
        """Begin with no question."""
        self._steps: list[Question] = []
        self._at = -1

    @property
    def current(self) -> Question | None:
        """The current question, None before the first."""
        return self._steps[self._at] if self._steps else None

    @property
    def ahead(self) -> int:
        """How many steps there are forward."""
        return len(self._steps) - 1 - self._at

    @property
    def behind(self) -> int:
        """How many steps there are back."""
        return max(0, self._at)

    def add(self, question: Question) -> None:
        """Make a question the current one, and drop those ahead."""
        self._steps = [*self._steps[: self._at + 1], question][-MAX_STEPS:]
        self._at = len(self._steps) - 1

    def move(self, steps: int) -> None:
        """Go back (-1) or forward (1) where there is something."""
        self._at = min(max(self._at + steps, 0), len(self._steps) - 1)
