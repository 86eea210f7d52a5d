"""How good a gallery's answers are, where labels say which photos belong together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from similar_images.evaluation import average_precision, bootstrap_interval, n_s_score, r_precision
from similar_images.labels import Labels

BLOCK = 64


@dataclass(frozen=True)
class AnswerQuality:
    """Measures of each query, in the order of `rows`; each photo asks for the others, by exact search.

    Attributes:
        rows: (q,) int64, the queries.
        found: (q, k) int64, their k nearest other photos.
        precision: (q,) float64, precision@k.
        average_precision: (q,) float64.
        r_precision: (q,) float64.
        n_s: (q,) float64, nan for queries whose label has not four photos.
    """

    rows: NDArray[np.int64]
    found: NDArray[np.int64]
    precision: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    r_precision: NDArray[np.float64]
    n_s: NDArray[np.float64]

    def means(self) -> dict[str, tuple[float, float, float]]:
        """Return the mean of each measure with the ends of its 95 % interval; the N-S score only of fours."""
        k = self.found.shape[1]
        measures = {
            f"precision@{k}": self.precision,
            "mean average precision": self.average_precision,
            "R-precision": self.r_precision,
        }
        if not np.isnan(self.n_s).any():
            measures["N-S score"] = self.n_s
        return {name: (float(np.nanmean(values)), *bootstrap_interval(values)) for name, values in measures.items()}

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
        """Return label asked for, label found, and the part of results that this is; the most frequent first.

        A result counts for each of its labels, unless it shares one with its query.
        """
        counts = np.zeros((len(labels.names), len(labels.names)))
        for row, ids in zip(self.rows, self.found, strict=True):
            wrong = ids[~(labels.has[ids] & labels.has[row]).any(axis=1)]
            counts[labels.has[row]] += labels.has[wrong].sum(axis=0)
        asked = labels.has[self.rows].sum(axis=0)[:, None] * self.found.shape[1]
        parts = counts / np.maximum(asked, 1)
        order = np.argsort(-parts, axis=None, kind="stable")[: np.count_nonzero(parts)]
        pairs = np.column_stack(np.unravel_index(order, parts.shape))
        return [(labels.names[a], labels.names[b], float(parts[a, b])) for a, b in pairs]

    def worst(self, count: int) -> NDArray[np.int64]:
        """Return the numbers of the queries with the lowest precision, and among these of the lowest average one."""
        return np.lexsort((self.average_precision, self.precision))[:count]


def answer_quality(vectors: NDArray[np.float32], labels: Labels, rows: NDArray[np.int64], k: int = 10) -> AnswerQuality:
    """Return how good the answers to photos are, each compared with all others exactly.

    Args:
        vectors: (n, d) float32 of length 1; rows of zeros, photos without a vector, are not found.
        labels: of the photos; a result is relevant if it shares a label with the query.
        rows: (q,) the photos that ask; each has a label that another photo has too.
        k: how many results precision@k looks at.
    """
    searchable = vectors.any(axis=1)
    found, measures = [], []
    for block in _blocks(rows):
        similar = np.where(searchable, vectors[block] @ vectors.T, -np.inf)
        similar[np.arange(len(block)), block] = -np.inf
        ranked = np.argsort(-similar, axis=1, kind="stable")[:, : searchable.sum() - 1]
        relevant = np.take_along_axis(labels.relevant(block), ranked, 1)
        found.append(ranked[:, :k])
        precision = relevant[:, :k].mean(axis=1)
        measures.append((precision, average_precision(relevant), r_precision(relevant), n_s_score(relevant)))
    return AnswerQuality(rows, np.concatenate(found), *map(np.concatenate, zip(*measures, strict=True)))


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
