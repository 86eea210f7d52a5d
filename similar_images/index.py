"""The Faiss index of a gallery: squared L2 distances between L2-normalised vectors, row numbers as ids."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images._files import BusyError, is_unchanged, mend, opened_path
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
        nlist: how many inverted lists it has, 0 for none.
    """

    def __init__(self, index: Any, card: IndexCard) -> None:
        """Take a trained Faiss index and what its card says."""
        self.card = card
        self.nprobe: int = card.nprobe
        self.rerank: int = card.rerank
        self.exact = card.index == "Flat"
        self._index = index
        self._layers = list(layers_of(index))
        self.nlist: int = max(getattr(layer, "nlist", 0) for layer in self._layers)

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
                index = faiss.read_index(opened_path(file), faiss.IO_FLAG_MMAP_IFC) if whole else None
        except FileNotFoundError:
            raise GalleryIndexError(
                f"there is no index {path}: build_search_db.py -i VECTORS -o {path} makes it"
            ) from None
        except (BusyError, CardError, OSError) as error:
            raise GalleryIndexError(str(error)) from error
        except RuntimeError as error:
            raise GalleryIndexError(
                f"this Faiss can't read {path}, which another wrote: build it again with build_search_db.py --overwrite"
            ) from error
        if card is None:
            raise GalleryIndexError(f"{path} has no card ({path.name}.json): build it again with build_search_db.py")
        if index is None:
            raise GalleryIndexError(
                f"{path} is not the index that its card describes, it was damaged or replaced by another: build it "
                "again with build_search_db.py --overwrite"
            )
        if (index.ntotal, index.d) != (card.n, card.d):
            raise GalleryIndexError(
                f"{path} holds {index.ntotal:,} vectors of dimension {index.d}, but its card says {card.n:,} of "
                f"{card.d}: they are of different runs; build it again with build_search_db.py --overwrite"
            )
        return cls(index, card)

    def candidates(
        self, query: Floats, k: int, nprobe: int, among: Rows | None = None, least: int | None = None
    ) -> tuple[Floats, Ids]:
        """Return the nearest vectors by the distances that the index can tell, approximate unless it is exact.

        Args:
            query: (d,) float32 of length 1.
            k: how many.
            nprobe: how many inverted lists to look into; an index without any ignores it.
            among: (n,) bool, which vectors may be found; None for all.
            least: more lists are looked into until this many are found; None for k.

        Returns:
            Distances (found,) and ids (found,), nearest first and equally near ones by their ids; fewer than `least`
            where there are no more, or where a graph doesn't lead to more.
        """
        least = min(k if least is None else least, self._count(among))
        while True:
            distances, ids = self._found(query, min(k, self.card.n), nprobe, among)
            if len(ids) >= least or nprobe >= self.nlist:
                return distances, ids
            nprobe = min(2 * nprobe, self.nlist)

    def _count(self, among: Rows | None) -> int:
        return self.card.n if among is None else min(self.card.n, int(np.count_nonzero(among)))

    def _found(self, query: Floats, k: int, nprobe: int, among: Rows | None) -> tuple[Floats, Ids]:
        try:
            with _one_thread():
                distances, ids = self._index.search(query[None], k, params=_parameters(self._layers, k, nprobe, among))
        except RuntimeError:
            if among is None:
                raise
            distances, ids = self._found(query, self.card.n, self.nlist, None)  # of an index that can't select, PQ say
            return distances[among[ids]][:k], ids[among[ids]][:k]
        order = np.lexsort((ids[0], distances[0]))
        order = order[ids[0][order] >= 0]
        return distances[0][order], ids[0][order]

    def search(
        self,
        query: Floats,
        k: int,
        nprobe: int,
        vectors: VectorFile | None,
        rerank: int,
        among: Rows | None = None,
        own: int | None = None,
    ) -> tuple[Floats, Ids]:
        """Return the nearest vectors, the best candidates re-ranked by their exact distances.

        Args:
            query: (d,) float32 of length 1.
            k: how many.
            nprobe: how many inverted lists to look into; more where these hold fewer than k.
            vectors: where the exact vectors are; None for no re-ranking.
            rerank: how many candidates to re-rank, 0 for none.
            among: (n,) bool, which vectors may be found; None for all. A few are all compared exactly.
            own: the id of the vector that the query is, which is found before its copies; None for another query.

        Returns:
            Squared L2 distances (found,), smallest first, and ids (found,); equally near ones by their ids.
        """
        if vectors is None or self.exact or not rerank:
            distances, ids = self.candidates(query, k, nprobe, among)
        else:
            ids = self._to_compare(query, k, nprobe, len(vectors.array), rerank, among)
            distances = vectors.distances(query, ids)
        compares = vectors is not None and (self.exact or rerank > 0)
        if compares and own is not None and own not in ids and (among is None or among[own]):  # it has many copies
            ids, distances = np.append(ids, own), np.append(distances, np.float32(0))
        order = np.lexsort((ids, ids != own, distances))[:k]
        order = order[np.isfinite(distances[order])]
        return distances[order], ids[order]

    def _to_compare(self, query: Floats, k: int, nprobe: int, n: int, rerank: int, among: Rows | None) -> Ids:
        """Return the ids of the vectors to compare exactly, in ascending order: that of the file."""
        count = self._count(among)
        if k < count and not (among is not None and count <= FEW) and not (rerank >= count and nprobe >= self.nlist):
            _, ids = self.candidates(query, max(k, rerank), nprobe, among, least=k)
            if len(ids) >= k:  # a graph may not lead to as many
                return np.sort(ids)
        return np.arange(n) if among is None else np.flatnonzero(among)


def _parameters(layers: Sequence[Any], k: int, nprobe: int, among: Rows | None) -> Any:
    """Return what tells an index and those inside it how many lists to look into and which vectors may be found."""
    import faiss

    index, *inside = layers
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(inside, k, nprobe, among))
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(inside, k, nprobe, among)
        return faiss.IndexRefineSearchParameters(base_index_params=inner, k_factor=index.k_factor)
    if isinstance(index, faiss.IndexIDMap):
        if among is not None and isinstance(inside[0], faiss.IndexPreTransform | faiss.IndexRefine):
            among = among[faiss.vector_to_array(index.id_map)]  # it translates what it gets itself, not what is inside
        return _parameters(inside, k, nprobe, among)
    selector = {} if among is None else {"sel": faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))}
    if isinstance(index, faiss.IndexIVF):
        nprobe = min(nprobe, index.nlist)
        nearest_lists = _parameters(list(layers_of(index.quantizer)), nprobe, nprobe, None)
        return faiss.SearchParametersIVF(nprobe=nprobe, quantizer_params=nearest_lists, **selector)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=max(k, index.hnsw.efSearch), **selector)
    return faiss.SearchParameters(**selector) if selector else None


def layers_of(index: Any) -> Iterator[Any]:
    """Yield an index and those inside it, outermost first."""
    import faiss

    while index is not None:
        index = faiss.downcast_index(index)
        yield index
        index = getattr(index, "index", None) or getattr(index, "base_index", None) or getattr(index, "storage", None)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let Faiss use no other threads than this one: to wake them for a single query takes longer than they save."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def nprobe_for(nlist: int) -> int:
    """Return how many of nlist inverted lists to look into: 32 of 100, and a smaller fraction of more."""
    return max(1, min(nlist, round(3.2 * math.sqrt(nlist))))
