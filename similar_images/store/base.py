"""The seam between a search and whatever keeps the vectors: what a store has to do, and the values it is asked with."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import VectorsCard
from similar_images.photos.file_list import folder_of
from similar_images.store.facts import Facts
from similar_images.store.measure import Measure

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.bool_]


class StoreError(ValueError):
    """A store can't be opened, searched or changed as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Among:
    """Which photos may be found: those that fulfil all of this.

    Attributes:
        folder: lie in this folder, not below it; None for any.
        pattern: part of the name, or with `*` and `?` the whole of it, in any case; "" for any.
        labels: have one of these; None for any.
        taken: from and until when, as `Facts.taken`, both inclusive, or the first part of one: ("2024-06", "2024-08").
        rows: are one of these; None for any.
        without: are none of these rows.
    """

    folder: str | None = None
    pattern: str = ""
    labels: tuple[str, ...] | None = None
    taken: tuple[str, str] | None = None
    rows: tuple[int, ...] | None = None
    without: tuple[int, ...] = ()

    def name_fits(self) -> Callable[[str], bool]:
        """Return what tells whether a name is in the folder and fits the pattern."""
        pattern = self.pattern.strip()
        whole = pattern if set("*?") & set(pattern) else f"*{pattern}*"
        fits = re.compile(fnmatch.translate(whole.replace("[", "[[]")), re.IGNORECASE).match
        return lambda name: self.folder in (None, folder_of(name)) and bool(fits(name))


@dataclass(frozen=True)
class Effort:
    """How thoroughly to search; None for what the store does by default.

    Attributes:
        nprobe: inverted lists to search.
        rerank: candidates to compare exactly; 0 compares them by what the index holds.
    """

    nprobe: int | None = None
    rerank: int | None = None


EXHAUSTIVE = Effort(nprobe=1 << 31, rerank=1 << 31)


class Store(Protocol):
    """Where the vectors of a gallery live and are found. Rows are ids for ever: they are only appended."""

    @property
    def path(self) -> Path:
        """What it is opened by."""

    @property
    def vectors_path(self) -> Path:
        """Where the vectors file is, or would be: the card's paths are relative to it."""

    @property
    def img_dir(self) -> Path:
        """The photos' folder when the vectors were made."""

    @property
    def card(self) -> VectorsCard:
        """What made the vectors."""

    @property
    def measure(self) -> Measure:
        """How similarity is measured."""

    @property
    def names(self) -> Sequence[str]:
        """The photos' names, by row, read as they are asked for."""

    @property
    def present(self) -> int:
        """How many photos can be found."""

    @property
    def label(self) -> str:
        """What its index is called, and whether distances are approximate."""

    @property
    def can_compare(self) -> bool:
        """Whether it can give the vectors of its rows, at least what their components tell of them."""

    @property
    def has_vectors(self) -> bool:
        """Whether vectors and distances are exact."""

    @property
    def finds_all(self) -> bool:
        """Whether it finds what exact search does."""

    @property
    def nlist(self) -> int:
        """How many inverted lists its index has, 0 for none."""

    @property
    def effort(self) -> Effort:
        """How thoroughly it is searched by default."""

    @property
    def version(self) -> str:
        """What changes whenever a vector does."""

    def __len__(self) -> int:
        """Return how many rows there are, photos or not."""

    def search(
        self,
        vectors: Floats,
        k: int,
        among: Among | None = None,
        effort: Effort | None = None,
        focus: float = 0,
    ) -> tuple[Ids, Floats]:
        """Return the photos most similar to each query.

        Args:
            vectors: (q, d) float32 feature vectors of any scale, not zero.
            k: how many, 1 or more.
            among: which photos may be found, all for None; k of these are found.
            effort: how thoroughly.
            focus: see `measure`; 0 where `measure.can_focus` is False.

        Returns:
            Rows (q, k) int64, nearest first and equally near ones ascending, -1 where there are no more; squared L2
            distances (q, k) float32 between units, inf there.
        """

    def distances(self, vector: Floats, rows: Ids, focus: float = 0) -> Floats:
        """Return the distances (r,) float32 of a vector (d,) to rows (r,); inf to a row without a photo."""

    def vectors(self, rows: Ids) -> Floats:
        """Return the feature vectors (r, d) float32 of rows (r,), of any scale; zeros for a row without a photo.

        Raises:
            StoreError: the store has not `can_compare`.
        """

    def components(self, rows: Ids) -> Floats:
        """Return the components (r, c) float32 of the units of rows (r,), see `measure`; zeros for no photo."""

    def chunks(self) -> Iterator[tuple[int, Floats]]:
        """Yield (first row, vectors (c, d) float32) that make up all rows; raises as `vectors` does."""

    def add(self, vectors: Floats, photos: Sequence[Facts]) -> Ids:
        """Append photos with their vectors (p, d), all or none of them, and return their rows (p,)."""

    def remove(self, rows: Sequence[int] | Ids) -> None:
        """Take the photos of rows out for ever, all or none of them; those that have gone before stay so."""

    def facts(self, rows: Sequence[int] | Ids) -> list[Facts]:
        """Return what is known of the photos of rows (r,)."""

    def row_of(self, name: str) -> int | None:
        """Return the row of the photo of a name, None for no such photo."""

    def labels(self) -> dict[str, int]:
        """Return how many photos can be found by label, sorted by it."""

    def matching(self, among: Among) -> Rows:
        """Return which rows (n,) bool a search among these can find."""
