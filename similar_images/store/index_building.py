"""Building the index of a gallery: choosing a kind, training it, filling it, and checking it against exact search.

By default the index holds the measure, see `measure`: vectors are L2-normalised, centred, L2-normalised and reduced to
their 128 principal components. These are sorted into 100 lists by their nearest centroid, kept as 16 codes of 8 bits,
which find candidates, and as float16, by which the candidates are compared. A small gallery gets less, see
`fit_to_gallery`.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import IndexCard, relative_to_card, replacing_with_card
from similar_images.files import opened_path
from similar_images.progress import Progress, no_progress
from similar_images.store.exact_search import distances_to_others, exact_neighbours, recall_at_k
from similar_images.store.faiss_index import (
    CENTRED_FLAT,
    GalleryIndex,
    GalleryIndexError,
    chain_of,
    layers_of,
    nprobe_for,
    rerank_for,
)
from similar_images.store.measure import FOCUS_COMPONENTS, Comparison, Measure
from similar_images.store.pca import principal_components
from similar_images.store.vectors import VectorFile, normalise

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

SEED = 0
POINTS_PER_LIST = 39  # below this Faiss warns that k-means has too little to learn a centroid from
MIN_POINTS_PER_CENTROID = 4
TRAIN_POINTS_PER_CENTROID = 64
TRAIN_POINTS_FOR_PCA = 8192
NO_VARIANCE = 1e-4  # of units: the leading components are all there is
K_FACTOR = 3  # candidates by codes, for each that is compared by its components
TRAIN_POINTS_FOR_OTHERS = 16384
DEFAULT_NBITS = 8
MULTI_INDEX = "\x01"  # what Faiss calls a quantizer whose centroids are not learnt each for itself
CHECK_QUERIES = 200
RECALL_K = 10


@dataclass(frozen=True)
class IndexSettings:
    """How to build an index.

    Attributes:
        nlist: number of inverted lists; None for a rule, see `fit_to_gallery`.
        m: number of sub-quantizers.
        nbits: bits per code.
        pca: number of principal components of the centred vectors to keep, or None for the raw cosine.
        factory: a string for `faiss.index_factory` instead of all of the above, of the raw cosine.
        train_size: how many vectors to train on, a seeded sample; None for enough of them.
        flat: whether photos are compared with all others rather than with those of some lists.
    """

    nlist: int | None = 100
    m: int = 16
    nbits: int = 8
    pca: int | None = 128
    factory: str | None = None
    train_size: int | None = None
    flat: bool = False


def fit_to_gallery(settings: IndexSettings, n: int, d: int) -> IndexSettings:
    """Return the settings that n vectors of dimension d can train.

    The rule: below 4 vectors per code of the product quantizer (1,024 for 8 bits) the index is Flat and keeps all
    components, which is exact. Above, nlist is 4 times the square root of n where it is left to this rule, and each
    list has at least 39 vectors on average, so nlist is at most n / 39. Codes keep their bits: on galleries this small,
    codebooks that know each vector find more neighbours than smaller ones. What a factory string names is built as is.
    """
    if settings.factory:
        return replace(settings, pca=None)
    if n < MIN_POINTS_PER_CENTROID << settings.nbits:
        return IndexSettings(pca=settings.pca and min(n, d), flat=True)
    nlist = max(1, min(settings.nlist or round(4 * math.sqrt(n)), n // POINTS_PER_LIST))
    pca = settings.pca and min(settings.pca, d)
    return replace(settings, nlist=nlist, m=min(settings.m, pca or d), pca=pca)


def describe(settings: IndexSettings) -> str:
    """Return what an index is called, by the words of Faiss' index factory."""
    if settings.factory:
        return settings.factory
    if settings.flat:
        return CENTRED_FLAT if settings.pca else "Flat"
    codes = f"IVF{settings.nlist},PQ{settings.m}x{settings.nbits}"
    return f"Center,PCA{settings.pca},{codes},Refine(SQfp16)" if settings.pca else codes


def build_index(
    vectors: VectorFile, output: Path, settings: IndexSettings, progress: Progress = no_progress
) -> IndexCard:
    """Build the index of a vectors file, check it against exact search, and write it with its card.

    Args:
        vectors: what to index; rows of zeros (photos that could not be read) stay out.
        output: the .faiss.index file to write.
        settings: what is asked for; see `fit_to_gallery` for what a small gallery gets.
        progress: shows how many vectors have been read and added.

    Returns:
        The card of the index.

    Raises:
        GalleryIndexError: every row is zero or some are no numbers, the settings don't fit the vectors, or the index
            can't be written.
        BusyError: another run is writing the index.
    """
    check_folder(output)
    n, d = vectors.array.shape
    rows, measure = _survey(vectors, progress)
    centring = settings if measure.mean is not None else replace(settings, pca=None)
    fitted = fit_to_gallery(centring, len(rows), d)
    card = IndexCard(
        index=describe(fitted),
        asked_for=describe(replace(settings, nlist=settings.nlist or fitted.nlist)),
        metric=f"squared L2 of {'centred, ' if fitted.pca else ''}L2-normalised vectors",
        n=len(rows),
        d=d,
        missing=np.setdiff1d(np.arange(n), rows).tolist(),
        nprobe=1,
        rerank=rerank_for(len(rows)),
        train_seconds=0,
        trained_n=len(rows),
        vectors=relative_to_card(vectors.path, output),
        vectors_card=vectors.described(),
    )
    with faiss_errors(f"build {card.index} from {card.n:,} vectors of dimension {d}"):
        index = _built(fitted, vectors, rows, measure, card, progress)
    write_index(index, output, card)
    return card


def _built(
    settings: IndexSettings, vectors: VectorFile, rows: Ids, measure: Measure, card: IndexCard, progress: Progress
) -> Any:
    """Return the index of some rows, and note on its card how it was trained and how it compares with exact search."""
    began = time.monotonic()
    progress("training", 0, len(rows))
    measure = _with_components(settings, vectors, rows, measure)
    index, trained_on = _trained(settings, vectors, rows, measure)
    card.train_seconds = round(time.monotonic() - began, 2)
    asking = sample_queries(rows, trained_on)
    queries = measure.units(vectors.array[asking])
    adding = _adding(index, vectors, measure, progress)
    exact = exact_neighbours(queries, adding, min(RECALL_K + 1, len(rows)), measure.units)
    progress("checking", 0, len(asking))
    whole = _with_measure(index, measure)
    opened = GalleryIndex(whole, card)
    opened.nprobe = card.nprobe = nprobe_for(opened.nlist, card.n)
    card.self_check = self_check(opened, replace(vectors, is_mapped=False), asking, exact, trained_on)
    return whole


def check_folder(output: Path) -> None:
    """Find out whether an index can be written, before it is made.

    Raises:
        GalleryIndexError: its folder is missing, or may not be written to.
    """
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise GalleryIndexError(f"{output} can't be written: {output.parent} is no folder that you may write to")


def _survey(vectors: VectorFile, progress: Progress) -> tuple[Ids, Measure]:
    """Return the rows that are not zero, and the measure of their vectors, without components.

    Raises:
        GalleryIndexError: there are none, or some hold values that are no numbers.
    """
    found, total = [], np.zeros(vectors.array.shape[1])
    for start, chunk in vectors.chunks():
        largest = np.maximum(chunk.max(axis=1), -chunk.min(axis=1))
        if not np.isfinite(largest).all():
            raise GalleryIndexError(f"{vectors.path} holds values that are not finite: extract the vectors again")
        found.append(np.flatnonzero(largest) + start)
        total += normalise(chunk).sum(axis=0, dtype=np.float64)
        progress("reading", start + len(chunk), len(vectors.array))
    rows = np.concatenate(found)
    if not len(rows):
        raise GalleryIndexError(f"{vectors.path} holds only rows of zeros: there is nothing to search")
    return rows, Measure.about(np.asarray(total / len(rows), np.float32), len(rows))


def _with_components(settings: IndexSettings, vectors: VectorFile, rows: Ids, centred: Measure) -> Measure:
    """Return the measure of a gallery, its components learnt from a sample."""
    if not settings.pca:
        return Measure.raw(vectors.array.shape[1])
    size = settings.train_size or TRAIN_POINTS_FOR_PCA
    sample = np.sort(np.random.default_rng(SEED).permutation(rows)[:size])
    units = np.concatenate([centred.units(block) for block in vectors.sample(sample)])
    components, variances = principal_components(units, settings.pca, SEED)
    return replace(centred, components=components, scales=_scales(variances[:FOCUS_COMPONENTS], min(units.shape)))


def _scales(variances: Floats, directions: int) -> Floats:
    """Return the scales (w,), see `Measure`, by the variances of units along their leading components."""
    left = 1 - variances.sum()
    behind = left / (directions - len(variances)) if left > NO_VARIANCE else variances[-1]
    return np.asarray(np.sqrt(variances / behind), np.float32)


@contextlib.contextmanager
def faiss_errors(task: str) -> Iterator[None]:
    """Turn what Faiss raises on the way into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise GalleryIndexError(
            f"Faiss can't {task} ({_reason(error)}): choose other settings, or leave them out"
        ) from error


def _reason(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip()


def write_index(index: Any, output: Path, card: IndexCard) -> None:
    """Put an index with its card, of which size and digest are filled in, in the place of an earlier one.

    Raises:
        GalleryIndexError: it can't be written.
        BusyError: another run is writing it.
    """
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


def sample_queries(rows: Ids, trained_on: Ids) -> Ids:
    """Return the rows to check an index with: not those that it was trained on, unless there are too few others."""
    others = np.setdiff1d(rows, trained_on, assume_unique=True)
    candidates = others if len(others) >= CHECK_QUERIES else rows
    return np.sort(np.random.default_rng(SEED).choice(candidates, min(CHECK_QUERIES, len(candidates)), replace=False))


def _adding(index: Any, vectors: VectorFile, measure: Measure, progress: Progress) -> Iterator[tuple[int, Floats]]:
    """Yield the chunks of a vectors file, each once its rows are in the index; one pass serves two purposes."""
    for start, chunk in vectors.chunks():
        index.add(reduced(measure, chunk))
        progress("adding", start + len(chunk), len(vectors.array))
        yield start, chunk


def reduced(measure: Measure, vectors: Floats) -> Floats:
    """Return what the index keeps of vectors (n, d): the components of their units, or these themselves."""
    units = measure.units(vectors)
    return units @ measure.components.T if len(measure.components) else units


def _trained(settings: IndexSettings, vectors: VectorFile, rows: Ids, measure: Measure) -> tuple[Any, Ids]:
    """Return a trained index of what `reduced` gives, and which of some rows it was trained on."""
    index = _untrained(settings, len(measure.components) or vectors.array.shape[1])
    size = 0 if index.is_trained else settings.train_size or _points_to_train(index)
    sample = np.sort(np.random.default_rng(SEED).choice(rows, min(size, len(rows)), replace=False))
    if not index.is_trained:
        _train(index, vectors, sample, measure)
    return index, sample


def _untrained(settings: IndexSettings, d: int) -> Any:
    import faiss

    if settings.flat:
        return faiss.IndexFlatL2(d)
    index = faiss.index_factory(d, settings.factory, faiss.METRIC_L2) if settings.factory else _ivf_pq(settings, d)
    for layer in layers_of(index):
        if hasattr(layer, "do_polysemous_training"):
            layer.do_polysemous_training = False  # orders codes for a search by Hamming distances, which none is
    return index


def _ivf_pq(settings: IndexSettings, d: int) -> Any:
    """Return inverted lists of codes; components are dealt out to them in turn, so that each has as much to tell."""
    import faiss

    d_codes = d + -d % settings.m
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatL2(d_codes), d_codes, settings.nlist, settings.m, settings.nbits, faiss.METRIC_L2
    )
    # `fit_to_gallery` decides what is enough, not a warning
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    if settings.pca or d_codes != d:
        dealt = np.arange(d_codes).reshape(-1, settings.m).T.ravel()
        remapping = faiss.RemapDimensionsTransform(d, d_codes, True)
        sources = np.where(dealt < d, dealt, -1)  # -1 stands for zeros
        faiss.copy_array_to_vector(sources.astype(np.int32), remapping.map)
        index = faiss.IndexPreTransform(remapping, index)
    if not settings.pca:
        return index
    refined = faiss.IndexRefine(index, faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2))
    refined.k_factor = K_FACTOR
    return refined


def _with_measure(index: Any, measure: Measure) -> Any:
    """Return an index that takes vectors as they are, and holds what `reduced` does to them."""
    import faiss

    if measure.mean is None:
        return index
    c, d = measure.components.shape
    centring, reducing = faiss.CenteringTransform(d), faiss.PCAMatrix(d, c)
    faiss.copy_array_to_vector(measure.mean, centring.mean)
    faiss.copy_array_to_vector(measure.components.ravel(), reducing.A)
    faiss.copy_array_to_vector(measure.scales**2, reducing.eigenvalues)
    reducing.have_bias = False  # the mean is taken away before
    reducing.is_trained = centring.is_trained = True
    reducing.is_orthonormal = True
    whole = index
    for transform in (reducing, faiss.NormalizationTransform(d), centring, faiss.NormalizationTransform(d)):
        if whole is index:
            whole = faiss.IndexPreTransform(transform, index)
        else:
            whole.prepend_transform(transform)
    return whole


def _points_to_train(index: Any) -> int:
    """Return how many vectors are enough for the inverted lists and the codes of an index."""
    layers = list(layers_of(index))
    bits = [layer.pq.nbits for layer in layers if hasattr(layer, "pq")]
    lists = [layer.nlist for layer in layers if getattr(layer, "quantizer_trains_alone", MULTI_INDEX) != MULTI_INDEX]
    return max(TRAIN_POINTS_PER_CENTROID << max(bits, default=DEFAULT_NBITS), POINTS_PER_LIST * max(lists, default=0))


def _train(index: Any, vectors: VectorFile, rows: Ids, measure: Measure) -> None:
    """Train an index on rows of a vectors file, which are kept in memory only as its transforms leave them."""
    transforms, inner = chain_of(index)
    for number, transform in enumerate(transforms):
        if not transform.is_trained:
            thinned = rows[:: max(1, len(rows) // TRAIN_POINTS_FOR_OTHERS)][:TRAIN_POINTS_FOR_OTHERS]
            transform.train(_transformed(transforms[:number], vectors, thinned, measure))
    inner.train(_transformed(transforms, vectors, rows, measure))
    index.is_trained = True


def _transformed(transforms: Iterable[Any], vectors: VectorFile, rows: Ids, measure: Measure) -> Floats:
    """Return what an index keeps of rows (r,) of a vectors file, put through transforms."""
    blocks = (reduced(measure, block) for block in vectors.sample(rows))
    return np.concatenate([reduce(lambda kept, each: each.apply(kept), transforms, block) for block in blocks])


def self_check(index: GalleryIndex, vectors: VectorFile, rows: Ids, exact: Ids, trained_on: Ids) -> dict[str, Any]:
    """Measure recall@k against exact search, with rows of the gallery as queries that must not find themselves."""
    k = min(RECALL_K, index.card.n - 1)
    if k < 1:
        return {}
    queries = [Comparison(index.measure, np.asarray(vectors.array[row], np.float32)) for row in rows]
    distances_of = partial(index.distances, vectors=vectors)
    nearest = distances_to_others(distances_of, queries, rows, list(exact), k)
    check: dict[str, Any] = {"queries": len(rows), "k": k, "rerank": index.rerank}
    check["trained_on_queries"] = bool(np.isin(rows, trained_on).any())
    for name, rerank in (("approximate", 0), ("reranked", index.rerank)):
        began = time.perf_counter()
        found = [index.search([query], k + 1, index.nprobe, vectors, rerank)[0][1] for query in queries]
        check[f"ms_{name}"] = round((time.perf_counter() - began) / len(queries) * 1000, 3)
        check[f"recall_{name}"] = round(
            recall_at_k(nearest, distances_to_others(distances_of, queries, rows, found, k)), 4
        )
    return check
