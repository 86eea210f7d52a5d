"""Precision of a gallery's results, where labels say which photos belong together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from similar_images.evaluation.labels import Labels
from similar_images.evaluation.measures import average_precision, mean_with_interval, n_s_score, r_precision
from similar_images.search.gallery import Gallery
from similar_images.store.measure import FOCUS, NEIGHBOURS
from similar_images.store.vectors import normalise

BLOCK = 64
AS_SET = "search, as set"
EXPANDED = f"{AS_SET}, with {NEIGHBOURS} neighbours"
FOCUSED, CENTRED, RAW = f"centred cosine, focus {FOCUS}", "centred cosine", "raw cosine"

Measures = dict[str, NDArray[np.float64]]
Units = Callable[[NDArray[np.floating]], NDArray[np.float32]]
Spaces = dict[str, Units]  # by name, what turns feature vectors into those of length 1 whose cosines are compared


@dataclass(frozen=True)
class AnswerQuality:
    """Measures of each query, in the order of `rows`; each photo is a query for the others, by exact search.

    Attributes:
        rows: (q,) int64, the queries.
        found: (q, k) int64, their k nearest other photos.
        similarities: (q, k) float32, the cosines of these.
        relevant: (q,) int64, how many of the other photos share a label with the query.
        others: how many other photos there are to be found.
        measures: (q,) float64 by name; the N-S score only where each label has four photos.
    """

    rows: NDArray[np.int64]
    found: NDArray[np.int64]
    similarities: NDArray[np.float32]
    relevant: NDArray[np.int64]
    others: int
    measures: Measures

    @property
    def precision(self) -> NDArray[np.float64]:
        """The precision@k of each query."""
        return self.measures[f"precision@{self.found.shape[1]}"]

    @property
    def average_precision(self) -> NDArray[np.float64]:
        """The average precision of each query."""
        return self.measures["mean average precision"]

    def chance(self) -> dict[str, float]:
        """Return what the mean of each measure is expected to be where results are drawn at random.

        Source: Bestgen: Exact Expected Average Precision of the Random Baseline (2015).
        """
        fraction = self.relevant / self.others
        harmonic = float((1 / np.arange(1, self.others + 1)).sum())
        further = (self.relevant - 1) / (self.others * max(1, self.others - 1))
        expected = dict.fromkeys(self.measures, float(fraction.mean()))
        expected["mean average precision"] = float(np.mean(harmonic / self.others + further * (self.others - harmonic)))
        return expected | ({"N-S score": 1 + 3 * expected["P@1"]} if "N-S score" in expected else {})

    def by_label(self, labels: Labels) -> list[tuple[str, int, float, float]]:
        """Return label, queries, precision@k and mean average precision of each label, the worst first."""
        table = []
        for number, name in enumerate(labels.names):
            own = labels.has[self.rows, number]
            if own.any():
                table.append(
                    (name, int(own.sum()), float(self.precision[own].mean()), float(self.average_precision[own].mean()))
                )
        return sorted(table, key=lambda line: line[2])

    def confusions(self, labels: Labels) -> list[tuple[str, str, float]]:
        """Return the query's label, the result's label, and their fraction of results; the most frequent first.

        A result counts for each of its labels, unless it shares one with its query.
        """
        counts = np.zeros((len(labels.names), len(labels.names)))
        for row, ids in zip(self.rows, self.found, strict=True):
            wrong = ids[~labels.shared(row, ids)]
            counts[labels.has[row]] += labels.has[wrong].sum(axis=0)
        possible = labels.has[self.rows].sum(axis=0)[:, None] * self.found.shape[1]
        fractions = counts / np.maximum(possible, 1)
        order = np.argsort(-fractions, axis=None, kind="stable")[: np.count_nonzero(fractions)]
        pairs = np.column_stack(np.unravel_index(order, fractions.shape))
        return [(labels.names[a], labels.names[b], float(fractions[a, b])) for a, b in pairs]

    def worst(self, count: int) -> NDArray[np.int64]:
        """Return the positions of the queries with the lowest precision, ties by average precision."""
        return np.lexsort((self.average_precision, self.precision))[:count]


def spaces_of(gallery: Gallery) -> Spaces:
    """Return the ways of comparing the photos of a gallery exactly, that of its search first.

    These are its measure, with and without focus, and the raw cosine; without the vectors file, the measure alone.
    """
    measure, by = gallery.measure, "exact" if gallery.store.has_vectors else "by the index's components"
    spaces: Spaces = {}
    if measure.can_focus:
        spaces[f"{FOCUSED}, {by}"] = partial(measure.units, focus=FOCUS)
    spaces[f"{RAW if measure.mean is None else CENTRED}, {by}"] = measure.units
    return spaces | ({f"{RAW}, {by}": normalise} if gallery.store.has_vectors else {})


def known_vectors(gallery: Gallery) -> Iterator[NDArray[np.float32]]:
    """Yield all vectors of a gallery, (c, d) float32 each time; without their file, by the index's components.

    Raises:
        StoreError: that file is missing, and the index holds no components.
    """
    return (chunk for _, chunk in gallery.store.chunks())


def means(measures: Measures) -> dict[str, tuple[float, float, float]]:
    """Return the mean of each measure with the ends of its 95 % interval."""
    return {name: mean_with_interval(values) for name, values in measures.items()}


def answer_quality(vectors: NDArray[np.float32], labels: Labels, rows: NDArray[np.int64], k: int = 10) -> AnswerQuality:
    """Return how good the answers to photos are, each compared with all others exactly.

    Args:
        vectors: (n, d) float32 of length 1; rows of zeros, photos without a vector, are not found.
        labels: of the photos; a result is relevant if it shares a label with the query.
        rows: (q,) the queries; each has a label that another photo has too.
        k: of precision@k.
    """
    searchable = vectors.any(axis=1)
    others = int(searchable.sum()) - 1
    k = min(k, others)
    found, similarities, blocks = [], [], []
    for block in _blocks(rows):
        cosines = np.where(searchable, vectors[block] @ vectors.T, -np.inf)
        cosines[np.arange(len(block)), block] = -np.inf
        ranked = np.argsort(-cosines, axis=1, kind="stable")[:, :others]
        relevant = np.take_along_axis(labels.relevant(block), ranked, 1)
        found.append(ranked[:, :k])
        similarities.append(np.take_along_axis(cosines, found[-1], 1))
        blocks.append((relevant.sum(axis=1), *_measures(relevant, k).values()))
    counts, *values = map(np.concatenate, zip(*blocks, strict=True))
    measures = dict(zip(_measures(relevant, k), values, strict=True))
    if np.isnan(measures["N-S score"]).any():
        del measures["N-S score"]
    return AnswerQuality(rows, np.concatenate(found), np.concatenate(similarities), counts, others, measures)


def searched(gallery: Gallery, labels: Labels, rows: NDArray[np.int64], k: int, expand: int = 0) -> Measures:
    """Return P@1 and precision@k of what the gallery's search answers to its own photos, as it is set.

    Args:
        gallery: what to search.
        labels: see `answer_quality`.
        rows: likewise.
        k: likewise.
        expand: see `Gallery.search`.
    """
    relevant = np.zeros((len(rows), min(k, len(gallery) - 1)), np.bool_)
    for line, row in zip(relevant, rows, strict=True):
        hits = gallery.search(int(row), k + 1, expand=expand)
        ids = [hit.image_id for hit in hits if hit.image_id != row][: len(line)]
        line[: len(ids)] = labels.shared(row, ids)
    return _of_first(relevant)


def _of_first(relevant: NDArray[np.bool_]) -> Measures:
    """Return the measures of first results (q, k), which no others are known of."""
    return {"P@1": relevant[:, 0].astype(np.float64), f"precision@{relevant.shape[1]}": relevant.mean(axis=1)}


def _measures(relevant: NDArray[np.bool_], k: int) -> Measures:
    whole = {"mean average precision": average_precision(relevant), "R-precision": r_precision(relevant)}
    return _of_first(relevant[:, :k]) | whole | {"N-S score": n_s_score(relevant)}


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
