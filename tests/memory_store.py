"""A store in memory that compares with every photo: the other side of the seam, as small as it can be."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from similar_images.cards import VectorsCard
from similar_images.store.base import Among, Effort, Floats, Ids, Rows, StoreError
from similar_images.store.facts import Facts
from similar_images.store.measure import Measure


@dataclass
class MemoryStore:
    """See `Store`; `rows` are the vectors (n, d), zeros where there is no photo."""

    rows: Floats
    photos: list[Facts]
    measure: Measure
    path: Path = Path("memory")
    vectors_path: Path = Path("memory")
    img_dir: Path = Path()
    label: str = "in memory"
    can_compare: bool = True
    has_vectors: bool = True
    finds_all: bool = True
    nlist: int = 0
    effort: Effort = field(default_factory=Effort)

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def card(self) -> VectorsCard:
        return VectorsCard(n=len(self.photos), d=self.rows.shape[1])

    @property
    def names(self) -> Sequence[str]:
        return [photo.name for photo in self.photos]

    @property
    def present(self) -> int:
        return int(self.matching(Among()).sum())

    @property
    def version(self) -> str:
        return str(hash(self.rows.tobytes()))

    def search(
        self, vectors: Floats, k: int, among: Among | None = None, effort: Effort | None = None, focus: float = 0
    ) -> tuple[Ids, Floats]:
        rows, distances = np.full((len(vectors), k), -1), np.full((len(vectors), k), np.inf, np.float32)
        allowed = np.flatnonzero(self.matching(among or Among()))
        for line, vector in enumerate(vectors):
            away = self.distances(vector, allowed, focus)
            order = np.argsort(away, kind="stable")[:k]
            rows[line, : len(order)], distances[line, : len(order)] = allowed[order], away[order]
        return rows, distances

    def distances(self, vector: Floats, rows: Ids, focus: float = 0) -> Floats:
        differences = self.measure.units(self.rows[rows], focus) - self.measure.units(vector[None], focus)
        return np.where(self.rows[rows].any(axis=1), np.vecdot(differences, differences), np.float32(np.inf))

    def vectors(self, rows: Ids) -> Floats:
        return self.rows[rows]

    def components(self, rows: Ids) -> Floats:
        return self.measure.units(self.rows[rows]) @ self.measure.components.T

    def chunks(self) -> Iterator[tuple[int, Floats]]:
        yield 0, self.rows

    def add(self, vectors: Floats, photos: Sequence[Facts]) -> Ids:
        if vectors.shape != (len(photos), self.rows.shape[1]):
            raise StoreError(f"the vectors are {vectors.shape}")
        added = np.arange(len(self.rows), len(self.rows) + len(vectors))
        self.photos += [replace(photo, row=row) for photo, row in zip(photos, added.tolist(), strict=True)]
        self.rows = np.concatenate([self.rows, vectors])
        return added

    def remove(self, rows: Sequence[int] | Ids) -> None:
        if not {*map(int, rows)} <= {*range(len(self))}:
            raise StoreError("there is no such photo")
        self.rows = self.rows.copy()
        for row in map(int, rows):
            self.rows[row] = 0
            self.photos[row] = replace(self.photos[row], state="removed", reason="removed")

    def facts(self, rows: Sequence[int] | Ids) -> list[Facts]:
        return [self.photos[row] for row in rows]

    def row_of(self, name: str) -> int | None:
        return next((photo.row for photo in self.photos if photo.name == name and photo.state != "removed"), None)

    def labels(self) -> dict[str, int]:
        return dict(sorted(Counter(photo.label for photo in self.photos if photo.state == "present").items()))

    def matching(self, among: Among) -> Rows:
        fits, first, last = among.name_fits(), *(among.taken or ("", ""))

        def may_be_found(photo: Facts) -> bool:
            return (
                photo.state == "present"
                and fits(photo.name)
                and (among.labels is None or photo.label in among.labels)
                and (not among.taken or bool(photo.taken and first <= photo.taken and photo.taken[: len(last)] <= last))
                and (among.rows is None or photo.row in among.rows)
                and photo.row not in among.without
            )

        return np.array([may_be_found(photo) for photo in self.photos], np.bool_)
