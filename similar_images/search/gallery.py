"""A gallery to search: opened from its index, which leads to vectors, names, photos and encoder."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.cards import CardError, VectorsCard, check_links, from_card, is_own
from similar_images.encoding.conversion import int8_file, is_whole, remembered
from similar_images.encoding.encoders import Encoder, encoder_of_card, files_of, label, load_encoder, spec_of_card
from similar_images.encoding.runtimes import (
    Runtime,
    format_of,
    open_runtime_for_queries,
    precision_for_queries,
    precision_of,
)
from similar_images.locks import one_at_a_time
from similar_images.photos.images import Box, Pixels, Source, cropped, is_url, read_image, resize
from similar_images.photos.photo_region import photo_region
from similar_images.search.near_duplicates import kept_apart
from similar_images.search.query_expansion import expanded
from similar_images.store.faiss_index import SUFFIX, GalleryIndex, GalleryIndexError
from similar_images.store.measure import FOCUS, Comparison, Measure
from similar_images.store.vectors import VectorFile, VectorsError, open_vectors, read_names

NEAR_DUPLICATE = 0.1  # a distance; what is as near to a query stays first
MOST_LOOKED_AT = 5000  # hits, for k that are no near-duplicates of each other
LOOKED_AT_ONCE = 16
ITSELF = 0.1  # distance, at most, of a picture that the gallery has
SEARCHED_FOR_PHOTO = (512, 512)  # pixels; a JPEG is decoded at a scale that has twice these

Query = Source | int | np.integer | NDArray[np.generic]
Distances = NDArray[np.float32]
Ids = NDArray[np.int64]
Nearest = Callable[[int], tuple[Distances, Ids]]
Search = Callable[[Comparison, int], tuple[Distances, Ids]]


class GalleryError(ValueError):
    """A gallery can't be opened or searched as asked; the message says why and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Let a notebook show the sentence alone."""
        return [str(self)]


@dataclass(frozen=True)
class Hit:
    """A photo of the gallery that was found.

    Attributes:
        rank: 1 for the nearest.
        image_id: the photo's row in the vectors and line in the file list, from 0.
        name: as the file list has it.
        path: where the photo should lie.
        distance: squared L2 between its unit and the query's, see `measure`: 0 (equal) to 4.
        similarity: their cosine, 1 - distance / 2.
    """

    rank: int
    image_id: int
    name: str
    path: Path
    distance: float
    similarity: float


class Gallery:
    """A set of photos that can be searched, by any number of threads, in forked processes too, and pickled.

    Attributes:
        names: the photos' names, by row.
        img_dir: their folder.
        card: what the vectors' card says.
        index: the opened index.
        vectors: the opened vectors, or None where the file is missing: then distances are approximate.
        measure: how similarity is measured.
    """

    def __init__(self, path: Path, index: GalleryIndex, vectors: VectorFile | None, names: list[str]) -> None:
        """Put together what `open` has found and checked."""
        self.path = path
        self.index = index
        self.vectors = vectors
        self.measure: Measure = index.measure
        self.names = names
        self.card: VectorsCard = index.card.vectors_card
        self._encoder: Encoder | None = None
        self._runtime: Runtime | None = None
        self._vectors_path = from_card(index.card.vectors, path)
        self.img_dir = from_card(self.card.img_dir, self._vectors_path) if self.card.img_dir else path.parent

    @classmethod
    def open(cls, index: str | os.PathLike[str], img_dir: str | os.PathLike[str] | None = None) -> "Gallery":
        """Open a gallery from its index; the cards lead to the rest.

        Args:
            index: the .faiss.index file.
            img_dir: where the photos are, if not where they were when the vectors were made.

        Raises:
            GalleryError: a file is missing, damaged, or doesn't fit the others.
        """
        path = Path(index)
        try:
            opened = GalleryIndex.open(path)
            card, vectors_path = opened.card.vectors_card, from_card(opened.card.vectors, path)
            vectors = open_vectors(vectors_path) if vectors_path.exists() else None
            if vectors and not vectors.is_described_by(card):
                raise GalleryIndexError(
                    f"{path} was built from other vectors than {vectors_path} holds now: build it again with "
                    "build_search_db.py --overwrite"
                )
            names = read_names(vectors_path, card.n, card.file_list_digest)
            gallery = cls(path, opened, vectors, names)
            if not is_own(path):
                gallery._check_links(photos_too=img_dir is None)
        except (GalleryIndexError, VectorsError, CardError) as error:
            raise GalleryError(str(error)) from error
        if img_dir is not None:
            gallery.img_dir = Path(img_dir)
        return gallery

    def __reduce__(self) -> tuple[Any, ...]:
        """Give another process what it opens the gallery with; the encoder is loaded there anew."""
        return Gallery.open, (self.path.absolute(), self.img_dir.absolute())

    def __len__(self) -> int:
        """Return how many photos can be found."""
        return int(self.index.card.n)

    def __repr__(self) -> str:
        """Say what the gallery is made of."""
        return f"<Gallery of {len(self):,} photos: {self.encoder_label}, {self.index_label}>"

    @property
    def encoder_label(self) -> str:
        """What the encoder is called, whether it is untrained, and whether it runs otherwise than for the gallery."""
        if not self.card.encoder:
            return "unknown encoder"
        own = format_of(precision_of(self.card.made_with))
        if own == "f32" or not self.card.weights_digest:
            return label(self.card)
        has_int8 = own == "int8" and is_whole(int8_file(self._vectors_path, self.encoder))
        here = precision_for_queries(self.card.made_with, int8=has_int8)
        return label(self.card) + (f", photos are encoded in {here}, the gallery was in {own}" if here != own else "")

    @property
    def index_label(self) -> str:
        """What the index is called, and whether its distances are exact."""
        exact = self.index.exact or self.vectors is not None
        return f"{self.index.card.index}{'' if exact else ', approximate: the vectors file is missing'}"

    def search(
        self,
        query: Query | Sequence[Query],
        k: int = 10,
        *,
        nprobe: int | None = None,
        rerank: int | None = None,
        among: NDArray[np.bool_] | None = None,
        apart: float = 0,
        focus: float | None = None,
        expand: int = 0,
        find_photo: bool = True,
    ) -> list[Hit]:
        """Return the photos most similar to a query.

        Args:
            query: a row number or name of the gallery, whose stored vector is taken; or a path, an address, the bytes
                of a photo, a PIL image or (h, w, 3) uint8 RGB pixels, which are encoded; or a vector (d,). A list or
                tuple of these looks for what is similar to all of them.
            k: how many; the gallery may have fewer.
            nprobe: how many of the index's lists to look into: more is slower and misses less; None for its card's.
            rerank: how many of the index's candidates to compare exactly; 0 compares them by what the index holds, None
                is for its card's.
            among: (n,) bool, which rows may be found, see `filters.matching`; None for all. k of these are found.
            apart: greedy near-duplicate suppression: a hit that is at most this far from a better one is left out. 0
                leaves out none. The nearest 5,000 are looked at, or k or `rerank` where that is more.
            focus: below 0 finds the same photo though it was changed, above 0 photos of the same kind, 0 is the centred
                cosine, see `measure`; -1 to 1. None for 0.1, or 0 where the index has no components.
            expand: search again by the query and this many of its first hits, see `query_expansion`; 0 for a single
                search. Near-duplicates of the query and the first hit stay first; all other distances are to the
                expanded query.
            find_photo: whether a path, an address or bytes ask by the photo that is found inside, see `photo_in`; what
                the gallery has itself stays whole.

        Returns:
            Hits, nearest first, and equally near ones by their rows: k, or all there are. Unless distances are
            approximate, a query from the gallery finds itself first, then its copies.

        Raises:
            GalleryError: no such row, a photo without a vector, a vector of another length, no query at all, or a
                number that is out of range.
            ImageReadError: the query photo can't be read.
        """
        nprobe = self.index.nprobe if nprobe is None else nprobe
        rerank = self.index.rerank if rerank is None else rerank
        _check_numbers(k, nprobe, rerank, apart, expand)
        if among is not None:
            among = self._searchable(among)
        found = partial(
            self.index.search, nprobe=nprobe, vectors=self.vectors, rerank=rerank, among=among, own=self.row(query)
        )
        comparison = Comparison(self.measure, self.vector(query, find_photo), self._focus(focus))
        nearest = partial(found, comparison)
        if expand:
            nearest = partial(self._among_neighbours, found, comparison, expand)
        distances, ids = self._kept_apart(nearest, k, max(k, rerank), apart) if apart else nearest(k)
        return [
            Hit(rank, row, self.names[row], self.photo_path(row), distance, 1 - distance / 2)
            for rank, (row, distance) in enumerate(zip(ids.tolist(), distances.tolist(), strict=True), 1)
        ]

    def _focus(self, focus: float | None) -> float:
        if focus is None:
            return FOCUS if self.measure.can_focus else 0
        if not isinstance(focus, Real) or not -1 <= focus <= 1:
            raise GalleryError(f"focus={focus!r}: it must be a number from -1 to 1")
        if focus and not self.measure.can_focus:
            raise GalleryError(
                "this gallery can't be focused: its index has no components; build it without --pca none"
            )
        return float(focus)

    def _among_neighbours(self, found: Search, query: Comparison, expand: int, k: int) -> tuple[Distances, Ids]:
        """Return the k nearest to a query and its first hits; what is nearest to the query alone stays first."""
        distances, ids = found(query, max(k, expand + 1))
        is_itself = distances <= 0
        first = ids[~is_itself][:expand]
        if not len(first):
            return distances[:k], ids[:k]
        unit = expanded(query.unit, self.stored(first), 1 - distances[~is_itself][:expand] / 2)
        wider = Comparison(self.measure, self.measure.vectors_of(unit[None])[0], query.focus)
        stays = distances <= max(NEAR_DUPLICATE, distances[~is_itself][0])
        wider_distances, wider_ids = found(wider, k + int(stays.sum()))
        others = ~np.isin(wider_ids, ids[stays])
        wider_distances, wider_ids = wider_distances[others], wider_ids[others]
        least = wider_distances[0] if len(wider_ids) else np.inf
        distances = np.append(np.minimum(distances[stays], least), wider_distances)
        return distances[:k], np.append(ids[stays], wider_ids)[:k]

    def _kept_apart(self, nearest: Nearest, k: int, few: int, apart: float) -> tuple[Distances, Ids]:
        """Return k of the nearest that are no near-duplicates of each other; mostly a few hits hold them."""
        for looked_at in (few, max(few, MOST_LOOKED_AT)):
            distances, ids = nearest(looked_at)
            kept = list(islice(kept_apart(self._blocks(ids), apart), k))
            if len(kept) == k or len(ids) < looked_at:
                break
        return distances[kept], ids[kept]

    def _blocks(self, ids: Ids) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(ids), LOOKED_AT_ONCE):
            yield self.stored(ids[start : start + LOOKED_AT_ONCE])

    def vector(self, query: Query | Sequence[Query], find_photo: bool = False) -> NDArray[np.float32]:
        """Return the feature vector (d,) float32 of a query, for several the one whose unit is the mean of theirs.

        Args:
            query: see `search`.
            find_photo: likewise.

        Raises:
            GalleryError, ImageReadError: see `search`, which also says what a query is.
        """
        if isinstance(query, list | tuple):
            if not query:
                raise GalleryError("there is no query: give at least one")
            units = self.measure.units(np.stack([self.vector(each, find_photo) for each in query]))
            return self._checked(self.measure.vectors_of(units.mean(axis=0)[None])[0])
        if isinstance(query, np.ndarray) and query.ndim == 1:
            return self._checked(query)
        row = self.row(query)
        if row is not None and self.can_compare:
            return self._with_direction(row)
        if row is not None:
            return self._encode(self.photo_path(row))
        if isinstance(query, np.ndarray):
            return self._encode_pixels(resize(_rgb(query), self.encoder.size, self.encoder.spec.resize))
        if not isinstance(query, str | os.PathLike | bytes | Image.Image):
            raise GalleryError(
                f"{query!r} is no query: give a row number or name of the gallery, the path, address or bytes of a "
                "photo, a PIL image, pixels, a vector, or several of these"
            )
        if find_photo and not isinstance(query, Image.Image):
            return self.photo_in(query)[0]
        return self._encode(query)

    def photo_in(self, picture: Source) -> tuple[NDArray[np.float32], Box | None]:
        """Return what to search with for a picture that may hold a photo, as a screenshot does.

        Args:
            picture: see `images.read_image`.

        Returns:
            The feature vector (d,) float32 of the photo in it, and where it is, see `photo_region`; of the whole
            picture, and None, where it holds none or is in the gallery itself.

        Raises:
            GalleryError, ImageReadError: see `search`.
        """
        encoder = self.encoder
        picture = Image.fromarray(read_image(picture)) if is_url(picture) else picture  # fetched once
        box = photo_region(read_image(picture, SEARCHED_FOR_PHOTO))
        parts = [picture, cropped(picture, box)] if box else [picture]
        vectors = [
            self._checked(each) for each in self.runtime.encode(np.stack([encoder.pixels(part) for part in parts]))
        ]
        if box is None:
            return vectors[0], None
        whole, photo = (self.search(vector, 1)[0].distance for vector in vectors)
        return (vectors[0], None) if whole <= min(photo, ITSELF) else (vectors[1], box)

    @property
    def can_compare(self) -> bool:
        """Whether any two photos can be compared: by the vectors file, or by the components that the index holds."""
        return self.vectors is not None or len(self.measure.components) > 0

    def stored(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the units (r, d) float32 of rows (r,), see `measure`; without the vectors file by the components.

        Raises:
            GalleryError: that file is missing, and the index holds no components.
        """
        self._check_can_compare()
        rows = np.asarray(rows, np.int64)
        if self.vectors is None:
            return self.measure.expressed(self.index.components(rows))
        return self.measure.units(self.vectors.array[rows])

    def _check_can_compare(self) -> None:
        if not self.can_compare:
            raise GalleryError(f"the vectors file {self._vectors_path} is missing, which this needs: put it back")

    def distances(
        self, vector: NDArray[np.float32], rows: Sequence[int] | NDArray[np.int64], focus: float = 0
    ) -> NDArray[np.float32]:
        """Return the distances (r,) float32 of a vector (d,) to rows (r,), exact by the vectors file, see `search`.

        Raises:
            GalleryError: that file is missing, and the index holds no components; or see `search`.
        """
        self._check_can_compare()
        comparison = Comparison(self.measure, self._checked(vector), self._focus(focus))
        return self.index.distances(comparison, np.asarray(rows, np.int64), self.vectors)

    def estimated_distances(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the distances (n,) float32 of a vector (d,) to all photos, as the index estimates them; nan for none.

        Raises:
            GalleryError: see `search`.
        """
        comparison = Comparison(self.measure, self._checked(vector))
        distances, ids = self.index.search(comparison, len(self), self.index.nlist or 1, None, len(self))
        estimated = np.full(len(self.names), np.nan, np.float32)
        estimated[ids] = distances
        return estimated

    def row(self, query: object) -> int | None:
        """Return the row of a query that is a photo of the gallery, by number, name or path; None for all others.

        Raises:
            GalleryError: there is no row of that number.
        """
        if isinstance(query, int | np.integer) and not isinstance(query, bool):
            if not 0 <= query < len(self.names):
                raise GalleryError(f"there is no photo {query}: the gallery has 0 to {len(self.names) - 1}")
            return int(query)
        if not isinstance(query, str | os.PathLike) or is_url(query):
            return None
        name = os.fspath(query)
        inside = os.path.relpath(os.path.abspath(name), os.path.abspath(self.img_dir))
        return self._rows.get(name, self._rows.get(inside))

    def photo_path(self, row: int) -> Path:
        """Return where the photo of a row should lie."""
        return self.img_dir / self.names[row]

    def searchable_rows(self) -> NDArray[np.int64]:
        """Return the rows (n,) of all photos that have a vector."""
        return np.flatnonzero(self._with_vector())

    @property
    def encoder(self) -> Encoder:
        """The encoder that made the gallery's vectors, loaded when it first has to run.

        Raises:
            GalleryError: it is unknown.
            EncoderError: it can't be loaded.
        """
        return self._encoder or self._load_encoder()

    @one_at_a_time
    def _load_encoder(self) -> Encoder:
        self._encoder = self._encoder or self._encoder_of_card()
        return self._encoder

    def _encoder_of_card(self) -> Encoder:
        if not self.card.encoder:
            raise GalleryError(
                f"{self._vectors_path} has no card that names its encoder: only its own photos can be queries"
            )
        if self.card.weights_digest:
            return encoder_of_card(self.card, self._vectors_path)
        spec = spec_of_card(self.card, self._vectors_path)
        return remembered(spec) or load_encoder(spec)

    def warm_up(self) -> None:
        """Load the encoder and run it once, so that a photo is encoded in milliseconds from then on.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        if self._runtime is None:
            width, height = self.encoder.size
            self.runtime.encode(np.zeros((1, height, width, 3), np.uint8))

    @property
    def runtime(self) -> Runtime:
        """What runs the encoder, made ready when it first has to.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        return self._runtime or self._open_runtime()

    @one_at_a_time
    def _open_runtime(self) -> Runtime:
        made_with, path = self.card.made_with, self._vectors_path
        self._runtime = self._runtime or open_runtime_for_queries(self.encoder, made_with, path)
        return self._runtime

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in reversed(list(enumerate(self.names)))}

    def _check_links(self, photos_too: bool) -> None:
        """Find out whether files from somebody else lead only to each other, see `cards`."""
        leads_out = (name for name in self.names if name.startswith("/") or ".." in name.split("/"))
        encoder_files = files_of(spec_of_card(self.card, self._vectors_path)) if self.card.encoder else []
        photos = [self.img_dir] if photos_too else []
        check_links(self.path, [self._vectors_path, *encoder_files, *photos, *map(self.img_dir.joinpath, leads_out)])

    def _checked(self, vector: NDArray[np.generic]) -> NDArray[np.float32]:
        if len(vector) != self.index.card.d:
            raise GalleryError(f"the vector has {len(vector)} numbers, those of the gallery {self.index.card.d}")
        if vector.dtype.kind not in "iuf":
            raise GalleryError(f"the vector holds {vector.dtype}, not numbers")
        with np.errstate(over="ignore"):
            values = vector.astype(np.float32)
        if not np.isfinite(values).all() or not values.any():
            raise GalleryError("the vector has no direction: it is all zeros, or has values that are not finite")
        return values

    def _searchable(self, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        among = np.asarray(among)
        if among.shape != (len(self.names),) or among.dtype != np.bool_:
            raise GalleryError(f"among must be ({len(self.names)},) bool, not {among.shape} {among.dtype}")
        return among & self._with_vector()

    def _with_vector(self) -> NDArray[np.bool_]:
        with_vector = np.ones(len(self.names), np.bool_)
        with_vector[[failure.row for failure in self.card.failures]] = False
        return with_vector

    def _with_direction(self, row: int) -> NDArray[np.float32]:
        """Return the stored vector (d,) of a row; without the vectors file, the one that its components tell of."""
        if self.vectors is None:
            vector = np.asarray(self.measure.vectors_of(self.stored([row]))[0])
        else:
            vector = np.asarray(self.vectors.array[row], np.float32)
        if not vector.any():
            reasons = {failure.row: failure.reason for failure in self.card.failures}
            raise GalleryError(f"{self.names[row]} has no vector: {reasons.get(row, 'its row is all zeros')}")
        return vector

    def _encode(self, photo: Source) -> NDArray[np.float32]:
        return self._encode_pixels(self.encoder.pixels(photo))

    def _encode_pixels(self, pixels: Pixels) -> NDArray[np.float32]:
        return self._checked(self.runtime.encode(pixels[None])[0])


def _check_numbers(k: int, nprobe: int, rerank: int, apart: float, expand: int) -> None:
    for name, number, least in (("k", k, 1), ("nprobe", nprobe, 1), ("rerank", rerank, 0), ("expand", expand, 0)):
        if not isinstance(number, Integral) or number < least:
            raise GalleryError(f"{name}={number!r}: it must be a whole number, {least} or more")
    if not isinstance(apart, Real) or not apart >= 0:
        raise GalleryError(f"apart={apart!r}: it must be a number, 0 or more")


def _rgb(pixels: NDArray[np.generic]) -> Pixels:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise GalleryError(f"pixels must be (h, w, 3) uint8 RGB, not {pixels.shape} {pixels.dtype}; a vector is (d,)")
    return np.asarray(pixels, np.uint8)


def default_index() -> Path:
    """Return the index that `make demo` opens, or else the one below here that was built last.

    Raises:
        GalleryError: there is none; the message says which commands build one.
    """
    if wanted := os.environ.get("SIMILAR_IMAGES_INDEX"):
        return Path(wanted)
    found = [*Path().glob(f"*{SUFFIX}"), *Path("demo").glob(f"*{SUFFIX}")]
    if not found:
        raise GalleryError(
            "No gallery has been built yet. In a terminal, 'make demo' builds one from drawn samples, "
            "'make demo IMAGES=~/Pictures' one from your own photos, and extract_image_vectors.py followed by "
            "build_search_db.py one from any folder or list."
        )
    return max(found, key=lambda path: path.stat().st_mtime)
