"""A gallery in files: vectors, catalogue and a Faiss index, which may lag behind, or come without the vectors."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from similar_images.cards import CardError, VectorsCard, from_card, is_own, write_card
from similar_images.files import BusyError, card_path, is_half_in_place, locked, part_of
from similar_images.locks import OPENING
from similar_images.store.base import Among, Effort, StoreError
from similar_images.store.catalogue import REMOVED, Catalogue
from similar_images.store.facts import Facts
from similar_images.store.faiss_index import GalleryIndex, GalleryIndexError
from similar_images.store.measure import Comparison, Measure
from similar_images.store.unfinished_vectors import UnfinishedVectors, left_by
from similar_images.store.vectors import VectorFile, VectorsError, open_vectors

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.bool_]

CACHED_FILTERS = 8
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class _State:
    """What the files of a gallery held when they were opened; it stays so while others take their names.

    Attributes:
        index: the opened index.
        vectors: the opened vectors, None where the file is missing.
        catalogue: what is known of the photos.
        card: what made the vectors.
        vectors_path: where the vectors file should be.
        img_dir: where the photos should be.
        cards: those of index and vectors.
        written: when and as which files they were written.
    """

    index: GalleryIndex
    vectors: VectorFile | None
    catalogue: Catalogue
    card: VectorsCard
    vectors_path: Path
    img_dir: Path
    cards: tuple[Path, Path]
    written: tuple[tuple[int, int], ...]

    @classmethod
    def opened(cls, path: Path) -> "_State":
        written = _written(card_path(path))
        index = GalleryIndex.open(path)
        vectors_path = from_card(index.card.vectors, path)
        cards = (card_path(path), card_path(vectors_path))
        written += _written(cards[1])
        vectors = open_vectors(vectors_path) if vectors_path.exists() else None
        if vectors and not _is_filled_from(index, vectors):
            raise GalleryIndexError(
                f"{path} was built from other vectors than {vectors_path} holds now: build it again with "
                "build_search_db.py --overwrite"
            )
        card = vectors.card if vectors and vectors.card.digest else index.card.vectors_card
        catalogue = Catalogue.of_vectors(vectors_path, card)
        present = np.ones(len(catalogue), np.bool_)
        present[catalogue.absent] = present[index.card.missing] = False
        index.present = None if present.all() else present
        img_dir = from_card(card.img_dir, vectors_path) if card.img_dir else path.parent
        return cls(index, vectors, catalogue, card, vectors_path, img_dir, cards, written)


class FaissStore:
    """A gallery in files, see `Store`; what other processes append or remove is seen by the next search.

    Attributes:
        path: the index file.
        is_own: whether this user has written its card on this machine.
    """

    def __init__(self, path: Path) -> None:
        """Open a gallery from its index, whose card leads to the other files.

        Raises:
            StoreError: a file is missing, damaged, or doesn't fit the others.
        """
        self.path = path
        try:
            self._state = _State.opened(path)
            self.is_own = is_own(path)
        except (GalleryIndexError, VectorsError, CardError) as error:
            raise StoreError(str(error)) from error
        self._seen = self._state.written
        self._matching = lru_cache(CACHED_FILTERS)(Catalogue.matching)

    def __reduce__(self) -> tuple[Any, ...]:
        """Give another process what it opens the gallery with."""
        return FaissStore, (self.path.absolute(),)

    def __len__(self) -> int:
        """Return how many rows there are, photos or not."""
        return self._state.card.n

    @property
    def card(self) -> VectorsCard:
        """What made the vectors."""
        return self._state.card

    @property
    def vectors_path(self) -> Path:
        """Where the vectors file should be."""
        return self._state.vectors_path

    @property
    def img_dir(self) -> Path:
        """The photos' folder when the vectors were made; that of the index where it isn't known."""
        return self._state.img_dir

    @property
    def measure(self) -> Measure:
        """How similarity is measured."""
        return self._state.index.measure

    @property
    def present(self) -> int:
        """How many photos can be found."""
        present = self._state.index.present
        return len(self) if present is None else int(np.count_nonzero(present))

    @property
    def names(self) -> Sequence[str]:
        """The photos' names, by row, read as they are asked for."""
        return self._state.catalogue.names

    @property
    def can_compare(self) -> bool:
        """Whether any two photos can be compared: by the vectors file, or by the components that the index holds."""
        return self._state.vectors is not None or len(self.measure.components) > 0

    @property
    def is_exact(self) -> bool:
        """Whether distances are those of the vectors themselves."""
        return self._state.index.exact or self._state.vectors is not None

    @property
    def has_vectors(self) -> bool:
        """Whether the vectors file is there."""
        return self._state.vectors is not None

    @property
    def label(self) -> str:
        """What the index is called, and whether its distances are approximate."""
        index = self._state.index.card.index
        return index if self.is_exact else f"{index}, approximate: the vectors file is missing"

    @property
    def nlist(self) -> int:
        """How many inverted lists the index has, 0 for none."""
        return self._state.index.nlist

    @property
    def finds_all(self) -> bool:
        """Whether the index finds what exact search does."""
        return self._state.index.exact

    @property
    def effort(self) -> Effort:
        """How thoroughly it is searched by default."""
        return Effort(self._state.index.nprobe, self._state.index.rerank)

    def set_effort(self, nprobe: int, rerank: int) -> None:
        """Note on the card how thoroughly to search by default from now on."""
        index = self._state.index
        index.nprobe = index.card.nprobe = nprobe
        index.rerank = index.card.rerank = rerank
        write_card(self.path, index.card)

    @property
    def self_check(self) -> dict[str, Any]:
        """How the index compared with exact search when it was built or had grown, see `IndexCard`."""
        return self._state.index.card.self_check

    @property
    def version(self) -> str:
        """What changes whenever a vector does."""
        return str(self.card.digest)

    def search(
        self,
        vectors: Floats,
        k: int,
        among: Among | None = None,
        effort: Effort | None = None,
        focus: float = 0,
    ) -> tuple[Ids, Floats]:
        """See `Store.search`; the candidates that the index finds are compared exactly where the vectors file is."""
        state, effort = self._refreshed(), effort or Effort()
        index = state.index
        nprobe = index.nprobe if effort.nprobe is None else effort.nprobe
        rerank = index.rerank if effort.rerank is None else effort.rerank
        allowed = None if among is None else self._matching(state.catalogue, among)
        queries = [Comparison(index.measure, vector, focus) for vector in vectors]
        found = index.search(queries, k, nprobe, state.vectors, rerank, allowed)
        rows, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        for line, (away, ids) in enumerate(found):
            rows[line, : len(ids)], distances[line, : len(ids)] = ids, away
        return rows, distances

    def distances(self, vector: Floats, rows: Ids, focus: float = 0) -> Floats:
        """See `Store.distances`."""
        state = self._state
        return state.index.distances(Comparison(state.index.measure, vector, focus), rows, state.vectors)

    def vectors(self, rows: Ids) -> Floats:
        """See `Store.vectors`; without the vectors file what the index's components tell of them."""
        state = self._state
        if state.vectors is not None:
            return np.asarray(state.vectors.array[rows], np.float32)
        if not self.can_compare:
            raise StoreError(f"the vectors file {state.vectors_path} is missing: put it back")
        measure = state.index.measure
        return measure.vectors_of(measure.units_of_components(state.index.components(rows)))

    def components(self, rows: Ids) -> Floats:
        """Return the components (r, c) float32 of the units of rows (r,); see `measure`."""
        state = self._state
        measure = state.index.measure
        if not len(measure.components):
            return np.zeros((len(rows), 0), np.float32)
        held = rows < state.index.rows
        components = np.empty((len(rows), len(measure.components)), np.float32)
        components[held] = state.index.components(rows[held])
        if not held.all():
            components[~held] = measure.units(self.vectors(rows[~held])) @ measure.components.T
        return components

    def chunks(self) -> Iterator[tuple[int, Floats]]:
        """See `Store.chunks`."""
        if self._state.vectors is not None:
            yield from self._state.vectors.chunks()
        else:
            for start in range(0, len(self), ROWS_AT_ONCE):
                yield start, self.vectors(np.arange(start, min(start + ROWS_AT_ONCE, len(self))))

    def add(self, vectors: Floats, photos: Sequence[Facts]) -> Ids:
        """See `Store.add`; all vectors are written again, so add many at once. Their order is that of their rows.

        Raises:
            StoreError: the vectors are none of this gallery's dimension, or can't be written.
        """
        if vectors.shape != (len(photos), self.card.d):
            raise StoreError(f"the vectors are {vectors.shape}, not ({len(photos)}, {self.card.d})")
        return self._changed(lambda known: known, vectors, photos)

    def remove(self, rows: Sequence[int] | Ids) -> None:
        """See `Store.remove`; all vectors are written again, so remove many at once.

        Raises:
            StoreError: there is no such row, or the vectors can't be written.
        """
        gone = {int(row) for row in rows}
        if nowhere := gone - {*range(len(self))}:
            raise StoreError(f"there is no photo {min(nowhere)}: the gallery has 0 to {len(self) - 1}")
        removed = {"state": "removed", "reason": REMOVED}
        nothing = np.zeros((0, self.card.d), np.float32)
        self._changed(lambda known: [replace(each, **removed) if each.row in gone else each for each in known], nothing)

    def _changed(
        self, change: Callable[[list[Facts]], list[Facts]], added: Floats, photos: Sequence[Facts] = ()
    ) -> Ids:
        """Change what is known of photos, append others with their vectors, and return the rows of these."""
        path = self.vectors_path
        try:
            with locked(path):
                if left_by(path):
                    raise VectorsError("an extraction into it was cut off, which the same command goes on with")
                old = open_vectors(path)
                with contextlib.closing(Catalogue.of_vectors(path, old.card)) as catalogue:
                    known = change(list(catalogue.all()))
                rows = np.arange(len(known), len(known) + len(added))
                card = replace(old.described(), n=len(known) + len(added), began_as=old.described().lineage)
                unfinished = UnfinishedVectors(path, (card.n, card.d), {})
                unfinished.open()
                try:
                    unfinished.take_over(old, known)
                    unfinished.write(len(known), np.asarray(added, np.float32))
                    appended = [replace(photo, row=row) for photo, row in zip(photos, rows.tolist(), strict=True)]
                    unfinished.checkpoint(len(added), appended)
                    unfinished.finish(card)
                finally:
                    if part_of(path).exists() and not is_half_in_place(path):
                        unfinished.discard()
        except (OSError, BusyError, VectorsError) as error:
            raise StoreError(f"{path} can't be changed: {error}") from error
        self._refreshed()
        return rows

    def facts(self, rows: Sequence[int] | Ids) -> list[Facts]:
        """See `Store.facts`."""
        return self._state.catalogue.facts(rows)

    def row_of(self, name: str) -> int | None:
        """See `Store.row_of`."""
        return self._state.catalogue.row_of(name)

    def labels(self) -> dict[str, int]:
        """Return how many photos can be found by label, sorted by it."""
        return self._state.catalogue.labels()

    def matching(self, among: Among) -> Rows:
        """See `Store.matching`; not to be modified."""
        state = self._state
        matching, present = self._matching(state.catalogue, among), state.index.present
        return matching if present is None else matching & present

    def _refreshed(self) -> _State:
        """Return what the files hold now, as far as they are the same gallery's and whole."""
        if _written(*self._state.cards) == self._seen:
            return self._state
        with OPENING:
            while (written := _written(*self._state.cards)) != self._seen:
                with contextlib.suppress(GalleryIndexError, VectorsError, CardError):
                    state = _State.opened(self.path)
                    if state.card.lineage == self._state.card.lineage:
                        self._state = state
                self._seen = written  # last: other threads go by it
            return self._state


def _is_filled_from(index: GalleryIndex, vectors: VectorFile) -> bool:
    """Tell whether an index holds the first rows of a vectors file, or all of them."""
    built_from = index.card.vectors_card
    if vectors.is_described_by(built_from):
        return True
    is_later = vectors.card.digest is not None and vectors.card.lineage == built_from.lineage
    return is_later and index.rows <= len(vectors.array)


def _written(*cards: Path) -> tuple[tuple[int, int], ...]:
    """Return when cards were written, and as which files; zeros for one that is missing."""
    found = []
    for card in cards:
        try:
            status = os.stat(card)
            found.append((status.st_ino, status.st_mtime_ns))
        except OSError:
            found.append((0, 0))
    return tuple(found)
