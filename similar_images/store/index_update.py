"""An index that follows its vectors file: what was appended is added, what left is masked, nothing is trained."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from similar_images.cards import IndexCard, VectorsCard
from similar_images.progress import Progress, no_progress
from similar_images.store.catalogue import Catalogue
from similar_images.store.exact_search import exact_neighbours
from similar_images.store.faiss_index import (
    CENTRED_FLAT,
    MAX_COMPARED_WHOLE,
    GalleryIndex,
    GalleryIndexError,
    chain_of,
    nprobe_for,
    rerank_for,
)
from similar_images.store.index_building import (
    RECALL_K,
    check_folder,
    faiss_errors,
    reduced,
    sample_queries,
    self_check,
    write_index,
)
from similar_images.store.vectors import VectorFile

RECHECK_GROWTH = 1.1  # since it was checked: then the index is checked again
CHECKED_ROWS = 64  # rows that have to be what the index holds of them
FLOAT16_TOLERANCE = 1e-2  # of components, by the 16 bits that an index keeps them in
MAX_RECALL_LOSS = 0.02  # of the recall that it had when it was built: then building it again pays


def update_index(vectors: VectorFile, output: Path, progress: Progress = no_progress) -> IndexCard:
    """Add the rows that a vectors file got since its index was filled, and mask those that have no photo any more.

    The index is checked against exact search once it has grown by a tenth since it was checked.

    Args:
        vectors: a later state of what the index was built from.
        output: the .faiss.index file.
        progress: see `build_index`.

    Returns:
        The card of the index.

    Raises:
        GalleryIndexError: there is no such index, it is of other vectors, or can't be written.
        BusyError: another run is writing it.
    """
    described = vectors.described()
    if (card := GalleryIndex.open(output).card).vectors_card == described:
        return card
    opened = GalleryIndex.open(output, to_add=True)
    card, whole = opened.card, opened.whole
    check_folder(output)
    if not _holds_earlier_rows(opened, vectors, described):
        raise GalleryIndexError(f"{output} is no index of earlier rows of {vectors.path}: build it with --overwrite")
    with faiss_errors(f"add to {card.index}"):
        empty = _append(whole, opened, vectors, progress)
    if card.index == CENTRED_FLAT and described.n > opened.rows:  # its components don't tell all of what came later
        card.index = f"Center,PCA{len(opened.measure.components)},Flat"
    with contextlib.closing(Catalogue.of_vectors(vectors.path, described)) as catalogue:
        card.missing = sorted({*card.missing, *empty, *catalogue.absent.tolist()})
    card.vectors_card, card.n = described, described.n - len(card.missing)
    card.nprobe = max(card.nprobe, nprobe_for(opened.nlist, card.n))
    compares_all = card.index.startswith("Center,") and card.index.endswith(",Flat")
    card.rerank = max(card.rerank, min(MAX_COMPARED_WHOLE, card.n) if compares_all else rerank_for(card.n))
    if card.n > RECHECK_GROWTH * card.self_check.get("n", card.trained_n):
        progress("checking", 0, card.n)
        card.first_check = card.first_check or card.self_check
        card.self_check = _checked(GalleryIndex(whole, card), vectors)
    write_index(whole, output, card)
    return card


def why_build_again(card: IndexCard) -> str | None:
    """Return what would get better if an index that only was added to were built again, None for nothing."""
    recalls = [check.get("recall_reranked", 0.0) for check in (card.first_check, card.self_check)]
    if card.first_check and recalls[0] - recalls[1] > MAX_RECALL_LOSS:
        return f"recall@{card.self_check['k']} has fallen from {recalls[0]:.3f} to {recalls[1]:.3f}"
    if card.index.endswith("Flat") and card.index != card.asked_for and card.n >= 2 * (card.trained_n or card.n):
        return f"each search compares all of {card.n:,} photos"
    return None


def _holds_earlier_rows(index: GalleryIndex, vectors: VectorFile, described: VectorsCard) -> bool:
    """Tell whether an index was filled from an earlier state of vectors: what left and the last rows tell."""
    if index.card.vectors_card.lineage != described.lineage or not index.whole.ntotal == index.rows <= described.n:
        return False
    if vectors.array[index.card.missing].any():
        return False  # the file has gone back to what it was before these left
    rows = np.arange(max(0, index.rows - CHECKED_ROWS), index.rows)
    held = vectors.array[rows].any(axis=1)
    components = reduced(index.measure, np.asarray(vectors.array[rows[held]], np.float32))
    return not len(index.measure.components) or np.allclose(
        index.components(rows[held]), components, atol=FLOAT16_TOLERANCE
    )


def _append(whole: Any, opened: GalleryIndex, vectors: VectorFile, progress: Progress) -> list[int]:
    """Add the rows that an index doesn't have, and return which of them are zeros."""
    holder = chain_of(whole)[1] if opened.measure.mean is not None else whole
    empty: list[int] = []
    for start, chunk in vectors.chunks(opened.rows):
        holder.add(reduced(opened.measure, chunk))
        empty += (start + np.flatnonzero(~chunk.any(axis=1))).tolist()
        progress("adding", start + len(chunk), len(vectors.array))
    whole.ntotal = holder.ntotal
    return empty


def _checked(index: GalleryIndex, vectors: VectorFile) -> dict[str, Any]:
    card, units = index.card, index.measure.units
    built_from = np.arange(card.trained_n)
    rows = sample_queries(
        np.setdiff1d(np.arange(index.rows), card.missing), built_from
    )  # what came since shows it most
    exact = exact_neighbours(units(vectors.array[rows]), vectors.chunks(), min(RECALL_K + 1, card.n), units)
    check = self_check(index, replace(vectors, is_mapped=False), rows, exact, built_from)
    return check | {"n": card.n}
