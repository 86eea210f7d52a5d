"""Building the index of a gallery: choosing a kind, training it, filling it, and checking it against exact search.

By default `PCAR96,IVF100,PQ16`: vectors are reduced to their 96 principal components, sorted into 100 lists by their
nearest centroid, and kept as 16 codes of 8 bits. A gallery too small to train that gets less, see `fit_to_gallery`.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import opened_path
from similar_images.cards import IndexCard, relative_to_card, replacing_with_card
from similar_images.evaluation import distances_to_others, exact_neighbours, recall_at_k
from similar_images.index import RERANK, GalleryIndex, GalleryIndexError, layers_of, nprobe_for
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
TRAIN_POINTS_FOR_OTHERS = 16384
USUAL_BITS = 8
MULTI_INDEX = "\x01"  # what Faiss calls a quantizer whose centroids are not learnt each for itself
CHECK_QUERIES = 200
RECALL_K = 10


@dataclass(frozen=True)
class IndexSettings:
    """How to build an index.

    Attributes:
        nlist: number of inverted lists; None for a rule, see `fit_to_gallery`.
        m: number of codes per vector.
        nbits: bits per code.
        pca: dimension to reduce to before that, or None; vectors that are no longer than it stay as they are.
        factory: a string for `faiss.index_factory` instead of all of the above.
        train_size: how many vectors to train on, a seeded sample; None for enough of them.
        rotate: dimension, at least the vectors' own, that a random rotation brings them to, or None.
    """

    nlist: int | None = 100
    m: int = 16
    nbits: int = 8
    pca: int | None = 96
    factory: str | None = None
    train_size: int | None = None
    rotate: int | None = None


def fit_to_gallery(settings: IndexSettings, n: int, d: int) -> IndexSettings:
    """Return the settings that n vectors of length d can train.

    The rule: below 4 vectors per code of the product quantizer (1,024 for 8 bits) the index is Flat, which is exact.
    Above, nlist is 4 times the square root of n where it is left to this rule, and each list has at least 39 vectors on
    average, so nlist is at most n / 39. Codes keep their bits: on galleries this small, codebooks that know each vector
    find more neighbours than smaller ones. m divides the dimension: what vectors are reduced to is rounded down to a
    multiple of m, and vectors that are not reduced are rotated into the next multiple, which keeps their distances.
    """
    if settings.factory:
        return settings
    if n < POINTS_PER_CODE << settings.nbits:
        return IndexSettings(factory="Flat")
    nlist = max(1, min(settings.nlist or round(4 * math.sqrt(n)), n // POINTS_PER_LIST))
    pca = settings.pca if settings.pca and settings.pca < d else None
    m = min(settings.m, pca or d)
    rotate = None if pca or d % m == 0 else d + m - d % m
    return replace(settings, nlist=nlist, m=m, pca=pca and pca - pca % m, rotate=rotate)


def describe(settings: IndexSettings) -> str:
    """Return what Faiss' index factory would call the index."""
    if settings.factory:
        return settings.factory
    transform = f"PCAR{settings.pca}," if settings.pca else f"RR{settings.rotate}," if settings.rotate else ""
    return f"{transform}IVF{settings.nlist},PQ{settings.m}x{settings.nbits}"


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
        GalleryIndexError: every row is zero or some are no numbers, the settings don't fit the vectors, or the index
            can't be written.
        BusyError: another run is writing the index.
    """
    _check_folder(output)
    d = vectors.array.shape[1]
    rows = _rows_with_vector(vectors, progress)
    fitted = fit_to_gallery(settings, len(rows), d)
    card = IndexCard(
        index=describe(fitted),
        asked_for=describe(replace(settings, nlist=settings.nlist or fitted.nlist)),
        metric="squared L2 of L2-normalised vectors",
        n=len(rows),
        d=d,
        nprobe=1,
        rerank=RERANK,
        train_seconds=0,
        vectors=relative_to_card(vectors.path, output),
        vectors_card=vectors.described(),
    )
    with _faiss_errors(f"build {card.index} from {card.n:,} vectors of dimension {d}"):
        index = _built(fitted, vectors, rows, card, progress)
    _write(index, output, card)
    return card


def _built(settings: IndexSettings, vectors: VectorFile, rows: Ids, card: IndexCard, progress: Progress) -> Any:
    """Return the index of some rows, and note on its card how it was trained and how it compares with exact search."""
    began = time.monotonic()
    progress("training", 0)
    index, trained_on = _trained(settings, vectors, rows)
    card.train_seconds = round(time.monotonic() - began, 2)
    asking = _asking(rows, trained_on)
    queries = normalise(vectors.array[asking])
    exact = exact_neighbours(queries, _adding(index, vectors, rows, progress), min(RECALL_K + 1, len(rows)))
    progress("checking", 0)
    opened = GalleryIndex(index, card)
    opened.nprobe = card.nprobe = nprobe_for(opened.nlist)
    card.self_check = _self_check(opened, vectors, asking, queries, exact, trained_on)
    return index


def _check_folder(output: Path) -> None:
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise GalleryIndexError(f"{output} can't be written: {output.parent} is no folder that you may write to")


def _rows_with_vector(vectors: VectorFile, progress: Progress) -> Ids:
    """Return the rows that are not zero.

    Raises:
        GalleryIndexError: there are none, or some hold values that are no numbers.
    """
    found = []
    for start, chunk in vectors.chunks():
        largest = np.maximum(chunk.max(axis=1), -chunk.min(axis=1))
        if not np.isfinite(largest).all():
            raise GalleryIndexError(f"{vectors.path} holds values that are not finite: extract the vectors again")
        found.append(np.flatnonzero(largest) + start)
        progress("reading", (start + len(chunk)) / len(vectors.array))
    rows = np.concatenate(found)
    if not len(rows):
        raise GalleryIndexError(f"{vectors.path} holds only rows of zeros: there is nothing to search")
    return rows


@contextlib.contextmanager
def _faiss_errors(task: str) -> Iterator[None]:
    """Turn what Faiss raises on the way into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise GalleryIndexError(
            f"Faiss can't {task} ({_reason(error)}): choose other settings, or leave them out"
        ) from error


def _reason(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip()


def _write(index: Any, output: Path, card: IndexCard) -> None:
    import faiss

    try:
        with replacing_with_card(output, card) as part:
            with open(part, "wb") as file:
                faiss.write_index(index, opened_path(file))
            card.bytes = part.stat().st_size
    except (OSError, RuntimeError) as error:
        raise GalleryIndexError(
            f"{output} can't be written ({_reason(error)}): make room for it, or choose another --output_filename"
        ) from error


def _asking(rows: Ids, trained_on: Ids) -> Ids:
    """Return the rows to check an index with: not those that it was trained on, unless there are too few others."""
    others = np.setdiff1d(rows, trained_on, assume_unique=True)
    candidates = others if len(others) >= CHECK_QUERIES else rows
    return np.sort(np.random.default_rng(SEED).choice(candidates, min(CHECK_QUERIES, len(candidates)), replace=False))


def _adding(index: Any, vectors: VectorFile, rows: Ids, progress: Progress) -> Iterator[tuple[int, Floats]]:
    """Yield the chunks of a vectors file, each once rows of it are in the index; one pass serves two purposes."""
    for start, chunk in vectors.chunks():
        first, last = np.searchsorted(rows, (start, start + len(chunk)))
        there = rows[first:last]
        index.add_with_ids(normalise(chunk[there - start]), there)
        progress("adding", (start + len(chunk)) / len(vectors.array))
        yield start, chunk


def _trained(settings: IndexSettings, vectors: VectorFile, rows: Ids) -> tuple[Any, Ids]:
    """Return an index that takes ids with the vectors that are added, and which of some rows it was trained on."""
    import faiss

    index = _untrained(settings, vectors.array.shape[1])
    size = 0 if index.is_trained else settings.train_size or _points_to_train(index)
    sample = np.sort(np.random.default_rng(SEED).choice(rows, min(size, len(rows)), replace=False))
    if not index.is_trained:
        _train(index, vectors, sample)
    keeps_ids = isinstance(_chain(index)[1], faiss.IndexIVF)
    return index if keeps_ids else faiss.IndexIDMap(index), sample


def _untrained(settings: IndexSettings, d: int) -> Any:
    import faiss

    index = faiss.index_factory(d, settings.factory, faiss.METRIC_L2) if settings.factory else _ivf_pq(settings, d)
    for layer in layers_of(index):
        if hasattr(layer, "do_polysemous_training"):
            layer.do_polysemous_training = False  # orders codes for a search by Hamming distances, which none is
    return index


def _ivf_pq(settings: IndexSettings, d: int) -> Any:
    import faiss

    transform = None
    if settings.pca:
        transform = faiss.LinearTransform(d, settings.pca, False)
    elif settings.rotate:
        transform = faiss.RandomRotationMatrix(d, settings.rotate)
        transform.init(SEED)
    d = transform.d_out if transform else d
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(d), d, settings.nlist, settings.m, settings.nbits, faiss.METRIC_L2)
    # `fit_to_gallery` decides what is enough, not a warning
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    return faiss.IndexPreTransform(transform, index) if transform else index


def _points_to_train(index: Any) -> int:
    """Return how many vectors are enough for the inverted lists and the codes of an index."""
    layers = list(layers_of(index))
    bits = [layer.pq.nbits for layer in layers if hasattr(layer, "pq")]
    lists = [layer.nlist for layer in layers if getattr(layer, "quantizer_trains_alone", MULTI_INDEX) != MULTI_INDEX]
    return max(TRAIN_POINTS_PER_CODE << max(bits, default=USUAL_BITS), POINTS_PER_LIST * max(lists, default=0))


def _chain(index: Any) -> tuple[list[Any], Any]:
    """Return the transforms that an index puts vectors through, and the index behind them."""
    import faiss

    if not isinstance(index, faiss.IndexPreTransform):
        return [], index
    transforms = [faiss.downcast_VectorTransform(index.chain.at(number)) for number in range(index.chain.size())]
    return transforms, faiss.downcast_index(index.index)


def _train(index: Any, vectors: VectorFile, rows: Ids) -> None:
    """Train an index on rows of a vectors file, which are kept in memory only as its transforms leave them."""
    transforms, inner = _chain(index)
    for number, transform in enumerate(transforms):
        if not transform.is_trained:
            _train_transform(transform, transforms[:number], vectors, rows)
    inner.train(_transformed(transforms, vectors, rows))
    index.is_trained = True


def _train_transform(transform: Any, before: list[Any], vectors: VectorFile, rows: Ids) -> None:
    import faiss

    if type(transform) is not faiss.LinearTransform:
        transform.train(_transformed(before, vectors, _thinned(rows, TRAIN_POINTS_FOR_OTHERS)))
        return
    sample = _transformed(before, vectors, _thinned(rows, TRAIN_POINTS_FOR_PCA))
    faiss.copy_array_to_vector(principal_directions(sample, transform.d_out, SEED).ravel(), transform.A)
    transform.is_trained = True


def _thinned(rows: Ids, count: int) -> Ids:
    return rows[:: max(1, len(rows) // count)][:count]


def _transformed(transforms: Iterable[Any], vectors: VectorFile, rows: Ids) -> Floats:
    """Return rows (r,) of a vectors file, L2-normalised and then put through transforms."""
    blocks = []
    for block in vectors.sample(rows):
        for transform in transforms:
            block = transform.apply(block)  # noqa: PLW2901
        blocks.append(block)
    return np.concatenate(blocks)


def _self_check(
    index: GalleryIndex, vectors: VectorFile, rows: Ids, queries: Floats, exact: Ids, trained_on: Ids
) -> dict[str, Any]:
    """Measure recall@k against exact search, with rows of the gallery as queries that must not find themselves."""
    k = min(RECALL_K, index.card.n - 1)
    if k < 1:
        return {}
    nearest = distances_to_others(vectors, queries, rows, list(exact), k)
    check: dict[str, Any] = {"queries": len(rows), "k": k, "rerank": index.rerank}
    check["trained_on_queries"] = bool(np.isin(rows, trained_on).any())
    for name, rerank in (("approximate", 0), ("reranked", index.rerank)):
        began = time.perf_counter()
        found = [index.search(query, k + 1, index.nprobe, vectors, rerank)[1] for query in queries]
        check[f"ms_{name}"] = round((time.perf_counter() - began) / len(queries) * 1000, 3)
        check[f"recall_{name}"] = round(recall_at_k(nearest, distances_to_others(vectors, queries, rows, found, k)), 4)
    return check
