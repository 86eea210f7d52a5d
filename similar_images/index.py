"""The Faiss index of a gallery: squared L2 distances between L2-normalised vectors, row numbers as ids."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import BusyError, is_unchanged, mend
from similar_images.cards import CardError, IndexCard, read_card
from similar_images.vectors import VectorFile

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.bool_]

SUFFIX = ".faiss.index"
RERANK = 250
FEW = 2000


class GalleryIndexError(ValueError):
    """An index can't be built or used; the message says why and what to do."""


class GalleryIndex:
    """An index with its card.

    Attributes:
        card: what the index is made of.
        nprobe: how many inverted lists to look into, unless asked otherwise.
        rerank: how many candidates to re-rank, unless asked otherwise.
        exact: whether its distances are exact without re-ranking.
    """

    def __init__(self, index: Any, card: IndexCard) -> None:
        """Take a trained Faiss index and what its card says."""
        self.card = card
        self.nprobe: int = card.nprobe
        self.rerank: int = card.rerank
        self.exact = card.index == "Flat"
        self._index = index

    @classmethod
    def open(cls, path: Path) -> "GalleryIndex":
        """Read an index and its card.

        Raises:
            GalleryIndexError: it is missing, no Faiss index, without a card, or not the one its card describes.
        """
        import faiss

        try:
            mend(path)
            card = read_card(path, IndexCard)
            with open(path, "rb") as file:
                whole = card is not None and card.digest and is_unchanged(file, card.digest)
        except FileNotFoundError:
            raise GalleryIndexError(
                f"there is no index {path}: build_search_db.py -i VECTORS -o {path} makes it"
            ) from None
        except (BusyError, CardError, OSError) as error:
            raise GalleryIndexError(str(error)) from error
        if card is None:
            raise GalleryIndexError(f"{path} has no card ({path.name}.json): build it again with build_search_db.py")
        if not whole:
            raise GalleryIndexError(
                f"{path} is not the index that its card describes, it was damaged or replaced by another: build it "
                "again with build_search_db.py --overwrite"
            )
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # what a search looks into is read then
        except RuntimeError as error:
            raise GalleryIndexError(
                f"this Faiss can't read {path}, which another wrote: build it again with build_search_db.py --overwrite"
            ) from error
        if (index.ntotal, index.d) != (card.n, card.d):
            raise GalleryIndexError(
                f"{path} holds {index.ntotal:,} vectors of dimension {index.d}, but its card says {card.n:,} of "
                f"{card.d}: they are of different runs; build it again with build_search_db.py --overwrite"
            )
        return cls(index, card)

    @property
    def nlist(self) -> int:
        """How many inverted lists it has, 0 for none."""
        import faiss

        inner = innermost(self._index)
        return inner.nlist if isinstance(inner, faiss.IndexIVF) else 0

    def candidates(self, query: Floats, k: int, nprobe: int, among: Rows | None = None) -> tuple[Floats, Ids]:
        """Return the nearest vectors by the distances that the index can tell, approximate unless it is exact.

        Args:
            query: (d,) float32 of length 1.
            k: how many.
            nprobe: how many inverted lists to look into; an index without any, or that hides them, ignores it.
            among: (n,) bool, which vectors may be found; None for all.

        Returns:
            Distances (found,) and ids (found,), nearest first; fewer than k where there are no more.
        """
        import faiss

        selector = {} if among is None else {"sel": faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))}
        params = None
        if self.nlist:
            params = faiss.SearchParametersIVF(nprobe=min(nprobe, self.nlist), **selector)
        elif selector:
            params = faiss.SearchParameters(**selector)
        if params and isinstance(self._index, faiss.IndexPreTransform):
            params = faiss.SearchParametersPreTransform(index_params=params)
        try:
            with _one_thread():
                distances, ids = self._index.search(query[None], min(k, self.card.n), params=params)
        except RuntimeError:
            if among is None:
                raise
            return self._selected_from_all(query, k, among)  # an index that can't select, PQ say
        there = ids[0] >= 0
        if among is not None and there.sum() < min(k, np.count_nonzero(among)):  # they are far from the query
            if nprobe < self.nlist:
                return self.candidates(query, k, self.nlist, among)
            return self._selected_from_all(query, k, among)
        return distances[0][there], ids[0][there]

    def _selected_from_all(self, query: Floats, k: int, among: Rows) -> tuple[Floats, Ids]:
        distances, ids = self.candidates(query, self.card.n, self.nlist)
        wanted = among[ids]
        return distances[wanted][:k], ids[wanted][:k]

    def search(
        self,
        query: Floats,
        k: int,
        nprobe: int,
        vectors: VectorFile | None,
        rerank: int,
        among: Rows | None = None,
    ) -> tuple[Floats, Ids]:
        """Return the nearest vectors, the best candidates re-ranked by their exact distances.

        Args:
            query: (d,) float32 of length 1.
            k: how many.
            nprobe: see `candidates`.
            vectors: where the exact vectors are; None for no re-ranking.
            rerank: how many candidates to re-rank, 0 for none.
            among: (n,) bool, which vectors may be found; None for all. A few are all compared exactly.

        Returns:
            Squared L2 distances (found,), smallest first, and ids (found,).
        """
        if self.exact or vectors is None or not rerank:
            return self.candidates(query, k, nprobe, among)
        if among is not None and np.count_nonzero(among) <= max(k, FEW):
            ids = np.flatnonzero(among)
        else:
            ids = np.sort(self.candidates(query, max(k, rerank), nprobe, among)[1])  # in the order of the file
        distances = vectors.distances(query, ids)
        nearest = np.argsort(distances, kind="stable")[:k]
        return distances[nearest], ids[nearest]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let Faiss use one thread: to wake others for a single query takes longer than they save."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def nprobe_for(nlist: int) -> int:
    """Return how many of nlist inverted lists to look into: 32 of 100, and a smaller part of more."""
    return max(1, min(nlist, round(3.2 * math.sqrt(nlist))))


def innermost(index: Any) -> Any:
    """Return the index behind a transformation of the vectors, or the index itself."""
    import faiss

    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
