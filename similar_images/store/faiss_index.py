"""The Faiss index of a gallery: the candidates of a search, compared exactly where the vectors are.

An id is a row of the vectors file. The default index holds the measure itself: transforms that L2-normalise, take the
mean away, L2-normalise and reduce to principal components, and the components of every photo as float16, by which
candidates are compared without the vectors.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images.cards import CardError, IndexCard, read_card
from similar_images.files import BusyError, is_unchanged, mend, opened_path
from similar_images.store.measure import Comparison, Measure
from similar_images.store.vectors import SUFFIX as VECTORS_SUFFIX
from similar_images.store.vectors import VectorFile

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.bool_]

SUFFIX = ".faiss.index"
MAX_COMPARED_WHOLE = 2000
CANDIDATES_PER_HIT = 3  # candidates for each that is asked for
MIN_CANDIDATES_PER_HIT = 2  # candidates, at least, for each that is asked for: a focus orders them otherwise
CENTRED_FLAT = "Center,Flat"
EXACT_INDEXES = ("Flat", CENTRED_FLAT)


class GalleryIndexError(ValueError):
    """An index can't be built or used; the message says why and what to do."""


class GalleryIndex:
    """An index with its card.

    Attributes:
        card: what the index is made of.
        nprobe: how many inverted lists to search, unless asked otherwise.
        rerank: how many candidates to re-rank, unless asked otherwise.
        exact: whether it finds the same as exact search does, without the vectors.
        whole: the Faiss index.
        rows: how many rows of the vectors file it was filled from; later ones are compared exactly.
        nlist: how many inverted lists it has, 0 for none.
        measure: what it compares by.
        present: (n,) bool, which rows have a photo, later ones too; None where all do.
    """

    def __init__(self, index: Any, card: IndexCard) -> None:
        """Take a trained Faiss index and what its card says."""
        self.card = card
        self.nprobe: int = card.nprobe
        self.rerank: int = card.rerank
        self.exact = card.index in EXACT_INDEXES
        self.rows = card.vectors_card.n
        self.whole = index  # what is inside goes with it
        self.measure, self._index = _measure_of(index)
        self._layers = list(layers_of(self._index))
        self.nlist: int = max(getattr(layer, "nlist", 0) for layer in self._layers)
        # made once: it takes 20 us, and more where there are rows without a photo
        self._unfiltered = lru_cache(lambda k, nprobe: _parameters(self._layers, k, nprobe, self.present))
        self.present: Rows | None = None
        if card.missing:
            self.present = np.ones(index.ntotal, np.bool_)
            self.present[card.missing] = False

    @classmethod
    def open(cls, path: Path, to_add: bool = False) -> "GalleryIndex":
        """Read an index and its card.

        Args:
            path: the .faiss.index file.
            to_add: whether to read it whole, to add to, instead of mapping it.

        Raises:
            GalleryIndexError: it is missing, no Faiss index, without a card, or not the one its card describes.
        """
        import faiss

        try:
            mend(path)
            card = read_card(path, IndexCard)
            with open(path, "rb") as file:
                whole = card is not None and card.digest and is_unchanged(file, card.digest)
                index = faiss.read_index(opened_path(file), 0 if to_add else faiss.IO_FLAG_MMAP_IFC) if whole else None
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
        n = card.n + len(card.missing)
        if (index.ntotal, index.d) != (n, card.d) or max(card.missing, default=0) >= n:
            raise GalleryIndexError(
                f"{path} holds {index.ntotal:,} vectors of dimension {index.d}, but its card says {n:,} of "
                f"{card.d}: they are of different runs; build it again with build_search_db.py --overwrite"
            )
        return cls(index, card)

    def candidates(
        self, queries: Sequence[Comparison], k: int, nprobe: int, among: Rows | None = None, least: int | None = None
    ) -> list[tuple[Floats, Ids]]:
        """Return the nearest vectors to each query as the index alone ranks them, whatever the query's focus.

        Args:
            queries: what to compare with.
            k: how many.
            nprobe: how many inverted lists to search; an index without any ignores it.
            among: (n,) bool, which vectors may be found; None for all.
            least: more lists are looked into until this many are found; None for k.

        Returns:
            For each query the index's distances (found,) and ids (found,), nearest first; fewer than `least` where
            there are no more, or where a graph doesn't lead to more.
        """
        among = self._allowed(among)
        least = min(k if least is None else least, self._count(among))
        asked = np.stack([query.components for query in queries])
        found = self._found(asked, min(k, self._index.ntotal), nprobe, among)
        if nprobe < self.nlist:
            for number, (_, ids) in enumerate(found):
                if len(ids) < least:
                    (found[number],) = self.candidates([queries[number]], k, min(2 * nprobe, self.nlist), among, least)
        return found

    def _allowed(self, among: Rows | None) -> Rows | None:
        return self.present if among is None else among if self.present is None else among & self.present

    def _count(self, among: Rows | None) -> int:
        return self.card.n if among is None else int(np.count_nonzero(among[: self.rows]))

    def _found(self, queries: Floats, k: int, nprobe: int, among: Rows | None) -> list[tuple[Floats, Ids]]:
        try:
            with _one_thread() if len(queries) == 1 else contextlib.nullcontext():
                unfiltered = among is self.present
                parameters = self._unfiltered(k, nprobe) if unfiltered else _parameters(self._layers, k, nprobe, among)
                distances, ids = self._index.search(queries, k, params=parameters)
        except RuntimeError:
            if among is None:
                raise
            distances, ids = self._index.search(queries, self._index.ntotal)  # it can't select: PQ, say
            every = [_in_order(*found) for found in zip(distances, ids, strict=True)]
            return [(distances[among[ids]][:k], ids[among[ids]][:k]) for distances, ids in every]
        return [_in_order(*found) for found in zip(distances, ids, strict=True)]

    def search(
        self,
        queries: Sequence[Comparison],
        k: int,
        nprobe: int,
        vectors: VectorFile | None,
        rerank: int,
        among: Rows | None = None,
    ) -> list[tuple[Floats, Ids]]:
        """Return the nearest vectors to each query, the best candidates re-ranked by their exact distances.

        Args:
            queries: what to compare with.
            k: how many.
            nprobe: how many inverted lists to search; more where these hold fewer than k.
            vectors: where the exact vectors are, and more than the index has; None to compare by what that holds.
            rerank: how many candidates to re-rank, 0 to compare them by what the index holds.
            among: (n,) bool, which vectors may be found; None for all. A few are all compared exactly.

        Returns:
            For each query squared L2 distances (found,), smallest first, and ids (found,); equally near ones by their
            ids.
        """
        among = self._allowed(among)
        exact = vectors if rerank or self.exact else None
        later = self._rows_since_filled(vectors, among)
        if exact is None and not len(self.measure.components):
            compared = self.candidates(queries, k, nprobe, among)
        else:
            chosen = self._to_compare(queries, k, nprobe, rerank or CANDIDATES_PER_HIT * k, among)
            compared = [(self.distances(query, ids, exact), ids) for query, ids in zip(queries, chosen, strict=True)]
        found = []
        for query, (near, some) in zip(queries, compared, strict=True):
            distances = np.append(near, self.distances(query, later, vectors)) if len(later) else near
            ids = np.append(some, later)
            order = np.lexsort((ids, distances))[:k]
            order = order[np.isfinite(distances[order])]
            found.append((distances[order], ids[order]))
        return found

    def _rows_since_filled(self, vectors: VectorFile | None, among: Rows | None) -> Ids:
        """Return the ids of the vectors that may be found and came after the index was filled."""
        later = np.arange(self.rows, len(vectors.array) if vectors else self.rows)
        return later if among is None else later[among[later]]

    def distances(self, query: Comparison, ids: Ids, vectors: VectorFile | None) -> Floats:
        """Return the squared L2 distances (c,) to ids (c,), exact by a vectors file, else by the index's components."""
        if vectors is None:
            return query.distances_by_components(self.components(ids))
        distances = np.empty(len(ids), np.float32)
        for some, block in vectors.gathered(ids):
            distances[some] = query.distances(block, partial(self._components_of, ids[some], block))
        return distances

    def _components_of(self, ids: Ids, vectors: Floats) -> Floats:
        """Return the components (r, c) of ids (r,), whose vectors (r, d) are at hand for those that it doesn't have."""
        if (ids < self.rows).all():
            return self.components(ids)
        return self.measure.units(vectors) @ self.measure.components.T

    def components(self, ids: Ids) -> Floats:
        """Return the components (r, c) float32 of the units of ids (r,); zeros where there is no photo."""
        components = self._components[ids].astype(np.float32)
        if self.present is not None:
            components[~self.present[ids]] = 0
        return components

    @cached_property
    def _components(self) -> NDArray[np.floating]:
        """The components (n, c) as the index holds them, float16 or float32, not to be modified."""
        import faiss

        outermost = self._layers[0]
        holder = faiss.downcast_index(getattr(outermost, "refine_index", outermost))
        codes = faiss.rev_swig_ptr(holder.codes.data(), holder.codes.size())
        components: NDArray[np.floating] = codes.view(f"f{holder.code_size // holder.d}").reshape(-1, holder.d)
        return components

    def _to_compare(
        self, queries: Sequence[Comparison], k: int, nprobe: int, rerank: int, among: Rows | None
    ) -> list[Ids]:
        """Return for each query the ids of the vectors to compare, in ascending order: that of the file."""
        count = self._count(among)
        everything = np.arange(self.rows) if among is None else np.flatnonzero(among[: self.rows])
        if (
            k >= count
            or (among is not None and count <= MAX_COMPARED_WHOLE)
            or (rerank >= count and nprobe >= self.nlist)
        ):
            return [everything] * len(queries)
        found = self.candidates(queries, max(MIN_CANDIDATES_PER_HIT * k, rerank), nprobe, among, least=k)
        # a graph may not lead to as many
        return [np.sort(ids) if len(ids) >= k else everything for _, ids in found]


def _in_order(distances: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Return what Faiss has found without the padding, equally near ones by their ids."""
    order = np.lexsort((ids, distances))
    order = order[ids[order] >= 0]
    return distances[order], ids[order]


def _measure_of(index: Any) -> tuple[Measure, Any]:
    """Return the measure that an index holds, and the index behind its transforms; the raw cosine for any other."""
    import faiss

    transforms, inner = chain_of(index)
    if not any(isinstance(transform, faiss.CenteringTransform) for transform in transforms):
        return Measure.raw(index.d), index
    _, centring, _, reducing = transforms
    components = faiss.vector_to_array(reducing.A).reshape(reducing.d_out, reducing.d_in)
    scales = np.sqrt(faiss.vector_to_array(reducing.eigenvalues))
    return Measure(faiss.vector_to_array(centring.mean), components, scales), inner


def chain_of(index: Any) -> tuple[list[Any], Any]:
    """Return the transforms that an index puts vectors through, and the index behind them."""
    import faiss

    if not isinstance(index, faiss.IndexPreTransform):
        return [], index
    transforms = [faiss.downcast_VectorTransform(index.chain.at(number)) for number in range(index.chain.size())]
    return transforms, faiss.downcast_index(index.index)


def _parameters(layers: Sequence[Any], k: int, nprobe: int, among: Rows | None) -> Any:
    """Return the search parameters of an index and those inside it, with a selector of what may be found."""
    import faiss

    index, *inside = layers
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(inside, k, nprobe, among))
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(inside, k, nprobe, among)
        return faiss.IndexRefineSearchParameters(base_index_params=inner, k_factor=index.k_factor)
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


def index_path(vectors_path: Path) -> Path:
    """Return where the index of a vectors file lies unless another place is chosen."""
    return vectors_path.with_name(vectors_path.name.removesuffix(VECTORS_SUFFIX) + SUFFIX)


def nprobe_for(nlist: int, n: int) -> int:
    """Return how many of nlist inverted lists of n photos to look into: 20 of 100, up to 80, or 2,000 photos."""
    return max(
        1, min(nlist, max(min(80, round(2 * math.sqrt(nlist))), math.ceil(MAX_COMPARED_WHOLE / max(n, 1) * nlist)))
    )


def rerank_for(n: int) -> int:
    """Return how many candidates of n photos to compare exactly: 64, and from 6,400 photos on up to 160."""
    return max(64, min(160, round(0.8 * math.sqrt(n))))
