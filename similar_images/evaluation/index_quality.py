"""How well a gallery's index agrees with exact search, and how long it takes, by nprobe and re-ranking."""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from similar_images.search.gallery import Gallery, GalleryError
from similar_images.store.base import Effort
from similar_images.store.exact_search import distances_to_others, exact_neighbours, recall_at_k
from similar_images.store.measure import FOCUS

KS = (1, 10, 100)
TIMED_K = 10
ROUNDING = 1e-5  # of a distance, which depends on how many are computed at a time
RERANKS = (0, 50, 100, 250, 500, 1000)


@dataclass(frozen=True)
class OperatingPoint:
    """Recall and latency of one setting of an index.

    Attributes:
        nprobe: how many inverted lists are searched, 0 for an index without any.
        rerank: how many candidates are re-ranked.
        recall: by k, recall@k of searches for k photos against exact search.
        p50: median milliseconds per query, of searches for 10.
        p99: those of the slowest in a hundred.
        current: whether this is the index's setting.
    """

    nprobe: int
    rerank: int
    recall: dict[int, float]
    p50: float
    p99: float
    current: bool

    @property
    def recall_at_10(self) -> float:
        """The recall@10, or that of as many as there are."""
        return self.recall.get(10, max(self.recall.values()))


def operating_points(gallery: Gallery, rows: NDArray[np.int64]) -> list[OperatingPoint]:
    """Return what each setting gives, measured with photos of the gallery, which are not counted as found.

    Both the index and exact search compare with the focus that a search has by default.

    Args:
        gallery: what to search; its vectors file must be there.
        rows: (q,) the photos to search for.

    Raises:
        GalleryError: the vectors file is missing.
    """
    store = gallery.store
    if not store.has_vectors:
        raise GalleryError("an index is compared with exact search in the vectors file, which is missing: put it back")
    units = partial(store.measure.units, focus=FOCUS)
    most = min(max(KS), len(gallery) - 1)
    queries = store.vectors(rows)
    nearest = exact_neighbours(units(queries), store.chunks(), most + 1, units)
    exact = distances_to_others(partial(store.distances, focus=FOCUS), list(queries), rows, list(nearest), most)
    settings = _settings(gallery)
    _measure(gallery, rows[:20], queries[:20], exact[:20], *settings[-1])  # so that the first is not the only cold one
    return [_measure(gallery, rows, queries, exact, *setting) for setting in settings]


def cheapest(points: Sequence[OperatingPoint], target_recall: float, k: int = 10) -> OperatingPoint | None:
    """Return the quickest setting whose recall@k reaches a target, None where none does."""
    good = [point for point in points if point.recall.get(k, 0) >= target_recall]
    return min(good, key=lambda point: point.p50, default=None)


def _settings(gallery: Gallery) -> list[tuple[int, int]]:
    nlist, (nprobe, rerank) = gallery.store.nlist, _current(gallery)
    if gallery.store.finds_all:
        return [(0, 0)]
    nprobes = {2**power for power in range(20) if 2**power < nlist} | {nlist, nprobe}
    reranks = {rerank for rerank in RERANKS if rerank <= len(gallery)} | {rerank}
    return [(nprobe, rerank) for nprobe in sorted(nprobes) for rerank in sorted(reranks)]


def _current(gallery: Gallery) -> tuple[int, int]:
    nprobe, rerank = astuple(gallery.store.effort)
    return min(nprobe, gallery.store.nlist), rerank


def _measure(
    gallery: Gallery,
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    exact: NDArray[np.float32],
    nprobe: int,
    rerank: int,
) -> OperatingPoint:
    """Measure one setting; exact is (q, most) float32, the distances of queries to their nearest other photos."""
    store, recall, times = gallery.store, dict[int, float](), dict[int, list[float]]()
    for k in (k for k in KS if k <= exact.shape[1]):
        ids, times[k] = [], []
        for query in queries:
            began = time.perf_counter()
            ids.append(store.search(query[None], k + 1, effort=Effort(max(nprobe, 1), rerank), focus=FOCUS)[0][0])
            times[k].append((time.perf_counter() - began) * 1000)
        found = distances_to_others(partial(store.distances, focus=FOCUS), list(queries), rows, ids, k)
        recall[k] = recall_at_k(exact[:, :k] * np.float32(1 + ROUNDING), found)
    p50, p99 = np.percentile(times.get(TIMED_K, times[1]), [50, 99])
    current = store.finds_all or (nprobe, rerank) == _current(gallery)
    return OperatingPoint(nprobe, rerank, recall, float(p50), float(p99), current)
