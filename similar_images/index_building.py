"""Building the index of a gallery: choosing a kind, training it, filling it, and checking it against exact search.

By default `IVF100,PQ16`: vectors are sorted into 100 lists by their nearest centroid, and kept as 16 codes of 8 bits.
A gallery too small to train that gets less, see `fit_to_gallery`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import Card, relative_to_card, replacing, write_card
from similar_images.evaluation import exact_neighbours, recall_at_k
from similar_images.index import NPROBE, RERANK, GalleryIndex, GalleryIndexError, innermost
from similar_images.pca import principal_directions
from similar_images.vectors import VectorFile, normalise

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Progress = Callable[[str, float], None]

SEED = 0
POINTS_PER_LIST = 39  # below this Faiss warns that k-means has too little to learn a centroid from
POINTS_PER_CODE = 4
TRAIN_POINTS_PER_CENTROID = 64
CHECK_QUERIES = 200
RECALL_K = 10


@dataclass(frozen=True)
class IndexSettings:
    """How to build an index.

    Attributes:
        nlist: number of inverted lists.
        m: number of codes a vector; it must divide the dimension.
        nbits: bits a code.
        pca: dimension to reduce to before that, or None.
        factory: a string for `faiss.index_factory` instead of all of the above.
        train_size: how many vectors to train on, a seeded sample; None for enough of them.
    """

    nlist: int = 100
    m: int = 16
    nbits: int = 8
    pca: int | None = None
    factory: str | None = None
    train_size: int | None = None


def fit_to_gallery(settings: IndexSettings, n: int, d: int) -> IndexSettings:
    """Return the settings that n vectors of length d can train.

    The rule: below 4 vectors a code of the product quantizer (1,024 for 8 bits) the index is Flat, which is exact.
    Above, each list has at least 39 vectors on average, so nlist is at most n / 39. Codes keep their bits: on galleries
    this small, codebooks that know each vector find more neighbours than smaller ones. m is at most the largest
    divisor of the dimension.
    """
    if settings.factory:
        return settings
    d = min(settings.pca or d, d)
    if n < POINTS_PER_CODE << settings.nbits:
        return IndexSettings(factory="Flat")
    m = next(m for m in range(min(settings.m, d), 0, -1) if d % m == 0)
    return replace(settings, nlist=max(1, min(settings.nlist, n // POINTS_PER_LIST)), m=m)


def describe(settings: IndexSettings) -> str:
    """Return what Faiss' index factory would call the index."""
    if settings.factory:
        return settings.factory
    reduced = f"PCAR{settings.pca}," if settings.pca else ""
    return f"{reduced}IVF{settings.nlist},PQ{settings.m}x{settings.nbits}"


def build_index(
    vectors: VectorFile, output: Path, settings: IndexSettings, progress: Progress = lambda step, share: None
) -> Card:
    """Build the index of a vectors file, check it against exact search, and write it with its card.

    Args:
        vectors: what to index; rows of zeros (photos that could not be read) stay out.
        output: the .faiss.index file to write.
        settings: what is asked for; see `fit_to_gallery` for what a small gallery gets.
        progress: called with the name of the step and the share of it that is done, 0 to 1.

    Returns:
        The card, with "index", "train_seconds" and "self_check".

    Raises:
        GalleryIndexError: every row is zero, or the settings don't fit the vectors.
    """
    import faiss

    rows = _rows_to_index(vectors, progress)
    _check(settings, vectors.array.shape[1])
    fitted = fit_to_gallery(settings, len(rows), vectors.array.shape[1])
    began = time.monotonic()
    progress("training", 0)
    index: Any = _trained(fitted, _sample(vectors, rows, fitted))
    train_seconds = time.monotonic() - began
    for start, chunk in vectors.chunks():
        there = np.flatnonzero(chunk.any(axis=1))
        index.add_with_ids(normalise(chunk[there]), there + start)
        progress("adding", (start + len(chunk)) / len(vectors.array))
    card: Card = {
        "index": describe(fitted),
        "asked_for": describe(settings),
        "metric": "squared L2 of L2-normalised vectors",
        "n": len(rows),
        "d": vectors.array.shape[1],
        "nprobe": NPROBE,
        "train_seconds": round(train_seconds, 2),
        "vectors": relative_to_card(vectors.path, output),
        "vectors_card": vectors.card,
    }
    progress("checking", 0)
    card["self_check"] = _self_check(GalleryIndex(index, card), vectors, rows)
    with replacing(output) as temporary:
        faiss.write_index(index, str(temporary))
    card["bytes"] = output.stat().st_size
    write_card(output, card)
    return card


def _rows_to_index(vectors: VectorFile, progress: Progress) -> Ids:
    found = []
    for start, chunk in vectors.chunks():
        if not np.isfinite(chunk).all():
            raise GalleryIndexError(f"{vectors.path} holds values that are not numbers: extract the vectors again")
        found.append(np.flatnonzero(chunk.any(axis=1)) + start)
        progress("reading", (start + len(chunk)) / len(vectors.array))
    rows: Ids = np.concatenate(found)
    if not len(rows):
        raise GalleryIndexError(f"{vectors.path} holds only rows of zeros: there is nothing to search")
    return rows


def _check(settings: IndexSettings, d: int) -> None:
    if settings.factory:
        return
    reduced = settings.pca or d
    if not 1 <= reduced <= d:
        raise GalleryIndexError(f"--pca {reduced} is not between 1 and the dimension of the vectors, {d}")


def _sample(vectors: VectorFile, rows: Ids, settings: IndexSettings) -> Floats:
    size = settings.train_size or TRAIN_POINTS_PER_CENTROID * max(settings.nlist, 1 << settings.nbits)
    chosen = np.random.default_rng(SEED).choice(rows, min(size, len(rows)), replace=False)
    return normalise(np.asarray(vectors.array[np.sort(chosen)], np.float32))


def _trained(settings: IndexSettings, sample: Floats) -> Any:
    import faiss

    try:
        index = _from_factory(settings.factory, sample) if settings.factory else _ivf_pq(settings, sample)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1].strip()
        raise GalleryIndexError(
            f"Faiss can't train {describe(settings)} on {len(sample):,} vectors of {sample.shape[1]} numbers "
            f"({reason}): choose other settings, or leave them out"
        ) from error
    keeps_ids = isinstance(innermost(index), faiss.IndexIVF)
    return index if keeps_ids else faiss.IndexIDMap(index)


def _from_factory(factory: str, sample: Floats) -> Any:
    import faiss

    index = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_L2)
    index.train(sample)
    return index


def _ivf_pq(settings: IndexSettings, sample: Floats) -> Any:
    import faiss

    transform = _pca(sample, settings.pca) if settings.pca else None
    d = settings.pca or sample.shape[1]
    quantizer = faiss.IndexFlatL2(d)
    index = faiss.IndexIVFPQ(quantizer, d, settings.nlist, settings.m, settings.nbits, faiss.METRIC_L2)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = (
        1  # `fit_to_gallery` decides, not a warning
    )
    index.train(transform.apply(sample) if transform else sample)
    return faiss.IndexPreTransform(transform, index) if transform else index


def _pca(sample: Floats, d_out: int) -> Any:
    import faiss

    transform = faiss.LinearTransform(sample.shape[1], d_out, False)
    faiss.copy_array_to_vector(principal_directions(sample, d_out, SEED).ravel(), transform.A)
    transform.is_trained = True
    return transform


def _self_check(index: GalleryIndex, vectors: VectorFile, rows: Ids) -> Card:
    """Measure recall@k against exact search, with rows of the gallery as queries that must not find themselves."""
    k = min(RECALL_K, len(rows) - 1)
    if k < 1:
        return {}
    chosen = np.sort(np.random.default_rng(SEED).choice(rows, min(CHECK_QUERIES, len(rows)), replace=False))
    queries = normalise(vectors.array[chosen])
    exact = _without(exact_neighbours(queries, vectors.chunks(), k + 1), chosen, k)
    check: Card = {"queries": len(chosen), "k": k, "rerank": RERANK}
    for name, rerank in (("approximate", 0), ("reranked", RERANK)):
        began = time.perf_counter()
        found = [index.search(query, k + 1, NPROBE, vectors, rerank)[1] for query in queries]
        check[f"ms_{name}"] = round((time.perf_counter() - began) / len(queries) * 1000, 3)
        padded = np.array([np.pad(ids, (0, k + 1 - len(ids)), constant_values=-1) for ids in found])
        check[f"recall_{name}"] = round(recall_at_k(exact, _without(padded, chosen, k)), 4)
    return check


def _without(ids: Ids, own: Ids, k: int) -> Ids:
    """Return the first k ids of each row that are not the row's own."""
    return np.array([row[row != mine][:k] for row, mine in zip(ids, own, strict=True)])
