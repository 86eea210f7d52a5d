"""Building the index of a gallery: choosing a kind, training it, filling it, and checking it against exact search.

By default `PCAR96,IVF100,PQ16`: vectors are reduced to their 96 principal components, sorted into 100 lists by their
nearest centroid, and kept as 16 codes of 8 bits. A gallery too small to train that gets less, see `fit_to_gallery`.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import locked, mend, part_of
from similar_images.cards import IndexCard, commit, relative_to_card
from similar_images.evaluation import exact_neighbours, recall_at_k
from similar_images.index import RERANK, GalleryIndex, GalleryIndexError, innermost, nprobe_for
from similar_images.pca import principal_directions
from similar_images.vectors import VectorFile, normalise

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Progress = Callable[[str, float], None]

SEED = 0
POINTS_PER_LIST = 39  # below this Faiss warns that k-means has too little to learn a centroid from
POINTS_PER_CODE = 4
TRAIN_POINTS_PER_CODE = 64
TRAIN_POINTS_FOR_PCA = 8192
CHECK_QUERIES = 200
RECALL_K = 10


@dataclass(frozen=True)
class IndexSettings:
    """How to build an index.

    Attributes:
        nlist: number of inverted lists; None for a rule, see `fit_to_gallery`.
        m: number of codes a vector; it must divide the dimension.
        nbits: bits a code.
        pca: dimension to reduce to before that, or None; vectors that are no longer than it stay as they are.
        factory: a string for `faiss.index_factory` instead of all of the above.
        train_size: how many vectors to train on, a seeded sample; None for enough of them.
    """

    nlist: int | None = 100
    m: int = 16
    nbits: int = 8
    pca: int | None = 96
    factory: str | None = None
    train_size: int | None = None


def fit_to_gallery(settings: IndexSettings, n: int, d: int) -> IndexSettings:
    """Return the settings that n vectors of length d can train.

    The rule: below 4 vectors a code of the product quantizer (1,024 for 8 bits) the index is Flat, which is exact.
    Above, nlist is 4 times the square root of n where it is left to this rule, and each list has at least 39 vectors on
    average, so nlist is at most n / 39. Codes keep their bits: on galleries this small, codebooks that know each vector
    find more neighbours than smaller ones. m is at most the largest divisor of the dimension.
    """
    if settings.factory:
        return settings
    pca = settings.pca if settings.pca and settings.pca < d else None
    d = pca or d
    if n < POINTS_PER_CODE << settings.nbits:
        return IndexSettings(factory="Flat")
    nlist = max(1, min(settings.nlist or round(4 * math.sqrt(n)), n // POINTS_PER_LIST))
    m = next(m for m in range(min(settings.m, d), 0, -1) if d % m == 0)
    return replace(settings, nlist=nlist, m=m, pca=pca)


def describe(settings: IndexSettings) -> str:
    """Return what Faiss' index factory would call the index."""
    if settings.factory:
        return settings.factory
    reduced = f"PCAR{settings.pca}," if settings.pca else ""
    return f"{reduced}IVF{settings.nlist},PQ{settings.m}x{settings.nbits}"


def build_index(
    vectors: VectorFile, output: Path, settings: IndexSettings, progress: Progress = lambda step, share: None
) -> IndexCard:
    """Build the index of a vectors file, check it against exact search, and write it with its card.

    Args:
        vectors: what to index; rows of zeros (photos that could not be read) stay out.
        output: the .faiss.index file to write.
        settings: what is asked for; see `fit_to_gallery` for what a small gallery gets.
        progress: called with the name of the step and the share of it that is done, 0 to 1.

    Returns:
        The card of the index.

    Raises:
        GalleryIndexError: every row is zero, or the settings don't fit the vectors.
        BusyError: another run is writing the index.
    """
    n, d = vectors.array.shape
    fitted = fit_to_gallery(settings, n - len(vectors.card.failures), d)
    began = time.monotonic()
    progress("training", 0)
    rows = _sample_rows(n, fitted)
    index: Any = _trained(fitted, vectors, rows)
    train_seconds = time.monotonic() - began
    chosen = rows[:: max(1, len(rows) // CHECK_QUERIES)][:CHECK_QUERIES]
    chosen = chosen[vectors.array[chosen].any(axis=1)]
    queries = normalise(vectors.array[chosen])
    exact = exact_neighbours(queries, _adding(index, vectors, progress), min(RECALL_K + 1, n))
    card = IndexCard(
        index=describe(fitted),
        asked_for=describe(replace(settings, nlist=settings.nlist or fitted.nlist)),
        metric="squared L2 of L2-normalised vectors",
        n=index.ntotal,
        d=d,
        nprobe=_nprobe(index),
        rerank=RERANK,
        train_seconds=round(train_seconds, 2),
        vectors=relative_to_card(vectors.path, output),
        vectors_card=vectors.described(),
    )
    progress("checking", 0)
    card.self_check = _self_check(GalleryIndex(index, card), vectors, chosen, queries, exact)
    _write(index, output, card)
    return card


def _write(index: Any, output: Path, card: IndexCard) -> None:
    import faiss

    mend(output)
    with locked(output):
        part = part_of(output)
        faiss.write_index(index, str(part))
        card.bytes = part.stat().st_size
        commit(output, card)


def _sample_rows(n: int, settings: IndexSettings) -> Ids:
    """Return the rows to train on, in ascending order; some may be zero."""
    enough = max(TRAIN_POINTS_PER_CODE << settings.nbits, POINTS_PER_LIST * (settings.nlist or 0))
    size = min(settings.train_size or enough, n)
    return np.sort(np.random.default_rng(SEED).choice(n, size, replace=False))


def _adding(index: Any, vectors: VectorFile, progress: Progress) -> Iterator[tuple[int, Floats]]:
    """Yield the chunks of a vectors file, each once it has been added to the index; one pass serves two purposes."""
    for start, chunk in vectors.chunks():
        if not np.isfinite(chunk).all():
            raise GalleryIndexError(f"{vectors.path} holds values that are not numbers: extract the vectors again")
        there = np.flatnonzero(chunk.any(axis=1))
        index.add_with_ids(normalise(chunk[there]), there + start)
        progress("adding", (start + len(chunk)) / len(vectors.array))
        yield start, chunk


def _nprobe(index: Any) -> int:
    import faiss

    inner = innermost(index)
    return nprobe_for(inner.nlist) if isinstance(inner, faiss.IndexIVF) else 1


def _trained(settings: IndexSettings, vectors: VectorFile, rows: Ids) -> Any:
    """Return an index trained on some rows of a vectors file, which takes ids with the vectors that are added."""
    import faiss

    transform = None
    if settings.pca and not settings.factory:
        fewer = rows[:: max(1, len(rows) // TRAIN_POINTS_FOR_PCA)][:TRAIN_POINTS_FOR_PCA]
        transform = _pca(np.concatenate(list(vectors.sample(fewer))), settings.pca)
    sample = np.concatenate([transform.apply(block) if transform else block for block in vectors.sample(rows)])
    if not len(sample):
        raise GalleryIndexError(f"{vectors.path} holds only rows of zeros: there is nothing to search")
    try:
        index = _from_factory(settings.factory, sample) if settings.factory else _ivf_pq(settings, sample, transform)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1].strip()
        raise GalleryIndexError(
            f"Faiss can't train {describe(settings)} on {len(sample):,} vectors of {vectors.array.shape[1]} numbers "
            f"({reason}): choose other settings, or leave them out"
        ) from error
    keeps_ids = isinstance(innermost(index), faiss.IndexIVF)
    return index if keeps_ids else faiss.IndexIDMap(index)


def _from_factory(factory: str, sample: Floats) -> Any:
    import faiss

    index = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_L2)
    index.train(sample)
    return index


def _ivf_pq(settings: IndexSettings, sample: Floats, transform: Any) -> Any:
    """Return an IVFPQ index trained on a sample (s, d) that went through the transform, if there is one."""
    import faiss

    d = sample.shape[1]
    quantizer = faiss.IndexFlatL2(d)
    index = faiss.IndexIVFPQ(quantizer, d, settings.nlist, settings.m, settings.nbits, faiss.METRIC_L2)
    # `fit_to_gallery` decides what is enough, not a warning
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(sample)
    return faiss.IndexPreTransform(transform, index) if transform else index


def _pca(sample: Floats, d_out: int) -> Any:
    import faiss

    transform = faiss.LinearTransform(sample.shape[1], d_out, False)
    faiss.copy_array_to_vector(principal_directions(sample, d_out, SEED).ravel(), transform.A)
    transform.is_trained = True
    return transform


def _self_check(index: GalleryIndex, vectors: VectorFile, chosen: Ids, queries: Floats, exact: Ids) -> dict[str, Any]:
    """Measure recall@k against exact search, with rows of the gallery as queries that must not find themselves."""
    k = min(RECALL_K, index.card.n - 1)
    if k < 1:
        return {}
    exact = _without(exact, chosen, k)
    check: dict[str, Any] = {"queries": len(chosen), "k": k, "rerank": index.rerank}
    for name, rerank in (("approximate", 0), ("reranked", index.rerank)):
        began = time.perf_counter()
        found = [index.search(query, k + 1, index.nprobe, vectors, rerank)[1] for query in queries]
        check[f"ms_{name}"] = round((time.perf_counter() - began) / len(queries) * 1000, 3)
        padded = np.array([np.pad(ids, (0, k + 1 - len(ids)), constant_values=-1) for ids in found])
        check[f"recall_{name}"] = round(recall_at_k(exact, _without(padded, chosen, k)), 4)
    return check


def _without(ids: Ids, own: Ids, k: int) -> Ids:
    """Return the first k ids of each row that are not the row's own."""
    return np.array([row[row != mine][:k] for row, mine in zip(ids, own, strict=True)])
