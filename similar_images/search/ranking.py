"""The order of hits: the query itself first, query expansion, near-duplicate suppression."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from similar_images.search.near_duplicates import suppress_near_duplicates
from similar_images.search.query_expansion import expanded
from similar_images.store.base import Among, Effort, Store

NEAR_DUPLICATE_DISTANCE = 0.1  # to a query, whose near-duplicates stay first
MAX_CANDIDATES = 5000  # for k hits that are no near-duplicates of each other
BLOCK = 16

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Found = tuple[Ids, Floats]  # rows (f,) and their distances (f,), nearest first


@dataclass(frozen=True)
class Ranking:
    """How to rank the photos of a store.

    Attributes:
        store: where they are.
        among: which of them may be found, None for all.
        effort: how thoroughly to search.
        focus: see `measure`.
        expand: how many of the first hits to search by as well, 0 for none.
        suppress_near_duplicates: how far, at least, hits are from each other; 0 suppresses none.
    """

    store: Store
    among: Among | None
    effort: Effort
    focus: float
    expand: int
    suppress_near_duplicates: float

    def nearest(self, vectors: Floats, own: Sequence[int | None], k: int) -> list[Found]:
        """Return what is found for each query.

        Args:
            vectors: (q, d) float32.
            own: the row that each query is, which is found before its copies; None for a query from elsewhere.
            k: how many.
        """
        if not self.suppress_near_duplicates:
            return self._ranked(vectors, own, k)
        return [self._suppressed(vector[None], [row], k) for vector, row in zip(vectors, own, strict=True)]

    def _suppressed(self, vector: Floats, own: Sequence[int | None], k: int) -> Found:
        """Return k of the nearest that are no near-duplicates of each other; mostly a few hits hold them."""
        rerank = self.store.effort.rerank if self.effort.rerank is None else self.effort.rerank
        least = max(k, rerank or 0)
        for count in (least, max(least, MAX_CANDIDATES)):
            ((rows, distances),) = self._ranked(vector, own, count)
            kept = list(islice(suppress_near_duplicates(self._units(rows), self.suppress_near_duplicates), k))
            if len(kept) == k or len(rows) < count:
                break
        return rows[kept], distances[kept]

    def _units(self, rows: Ids) -> Iterator[Floats]:
        for start in range(0, len(rows), BLOCK):
            yield self.store.measure.units(self.store.vectors(rows[start : start + BLOCK]))

    def _ranked(self, vectors: Floats, own: Sequence[int | None], k: int) -> list[Found]:
        if not self.expand:
            return self._search(vectors, own, k)
        first = self._search(vectors, own, max(k, self.expand + 1))
        expanded_queries = np.stack([self._expanded(*each) for each in zip(vectors, first, strict=True)])
        kept_first = [_is_kept_first(distances) for _, distances in first]
        second = self._search(expanded_queries, [None] * len(vectors), k + max(int(each.sum()) for each in kept_first))
        return [_merged(*found, k) for found in zip(first, kept_first, second, strict=True)]

    def _expanded(self, vector: Floats, found: Found) -> Floats:
        """Return a query (d,) moved towards its first hits, copies of it left out."""
        rows, distances = found
        others = distances > 0
        rows, distances = rows[others][: self.expand], distances[others][: self.expand]
        if not len(rows):
            return vector
        measure = self.store.measure
        unit = expanded(measure.units(vector[None])[0], measure.units(self.store.vectors(rows)), 1 - distances / 2)
        return np.asarray(measure.vectors_of(unit[None])[0])

    def _search(self, vectors: Floats, own: Sequence[int | None], k: int) -> list[Found]:
        lines = zip(vectors, own, *self.store.search(vectors, k, self.among, self.effort, self.focus), strict=True)
        return [self._itself_first(*line) for line in lines]

    def _itself_first(self, vector: Floats, own: int | None, rows: Ids, distances: Floats) -> Found:
        k, found = len(rows), rows >= 0
        rows, distances = rows[found], distances[found]
        if own is None:
            return rows, distances
        if own not in rows and self._can_find(own):  # it has many copies
            rows = np.append(rows, own)
            distances = np.append(distances, self.store.distances(vector, np.array([own]), self.focus))
        order = np.lexsort((rows, rows != own, distances))[:k]
        return rows[order], distances[order]

    def _can_find(self, row: int) -> bool:
        return self.store.can_compare and bool(self.store.matching(self.among or Among())[row])


def _is_kept_first(distances: Floats) -> NDArray[np.bool_]:
    """Return which hits query expansion keeps first: near-duplicates of the query, and the first other one."""
    others = distances[distances > 0]
    return distances <= max(NEAR_DUPLICATE_DISTANCE, others[0] if len(others) else 0)


def _merged(first: Found, kept_first: NDArray[np.bool_], second: Found, k: int) -> Found:
    """Return the hits that stay first, then those of the expanded query; distances are to that, ascending."""
    rows, distances = first[0][kept_first], first[1][kept_first]
    others = ~np.isin(second[0], rows)
    later, later_distances = second[0][others], second[1][others]
    least = later_distances[0] if len(later) else np.inf
    return np.append(rows, later)[:k], np.append(np.minimum(distances, least), later_distances)[:k]
