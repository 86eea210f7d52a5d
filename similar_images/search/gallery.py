"""A gallery to search: a store and the encoder of its vectors behind one `search`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from similar_images.cards import CardError, check_links
from similar_images.encoding.encoders import Encoder, files_of, spec_of_card
from similar_images.encoding.runtimes import Runtime
from similar_images.photos.images import Box, Source, cropped, is_url, read_image
from similar_images.photos.photo_region import photo_region
from similar_images.search.errors import GalleryError
from similar_images.search.query import Photo, Query, Row, Vector, as_query
from similar_images.search.query_encoder import QueryEncoder
from similar_images.search.ranking import NEAR_DUPLICATE_DISTANCE, Ranking
from similar_images.store.base import EXHAUSTIVE, Among, Effort, Store, StoreError
from similar_images.store.facts import Facts
from similar_images.store.faiss_index import SUFFIX
from similar_images.store.faiss_store import FaissStore
from similar_images.store.measure import FOCUS, Measure

__all__ = ["NEAR_DUPLICATE_DISTANCE", "Gallery", "GalleryError", "Hit", "default_index"]

SAME_PICTURE_DISTANCE = 0.1  # at most, from a query to the very picture in the gallery
DETECTION_SIZE = (512, 512)  # pixels; a JPEG is decoded at a scale that has twice these

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Hit:
    """A photo of the gallery that was found.

    Attributes:
        rank: 1 for the nearest.
        image_id: the photo's row, for ever.
        name: relative to the photos' folder.
        path: where the photo should lie.
        distance: squared L2 between its centred unit vector and the query's, see `measure`: 0 (equal) to 4.
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

    Photos that others add or remove are seen by the next search.

    Attributes:
        store: where their vectors live and are found.
    """

    def __init__(self, store: Store, img_dir: Path | None = None) -> None:
        """Put a store and the encoder that its card names together; see `open` for the photos' folder."""
        self.store = store
        self._img_dir = img_dir
        self._encoder = QueryEncoder(store.card, store.vectors_path)

    @classmethod
    def open(cls, index: str | os.PathLike[str], img_dir: str | os.PathLike[str] | None = None) -> "Gallery":
        """Open a gallery from its index; the cards lead to the rest.

        Args:
            index: the .faiss.index file.
            img_dir: where the photos are, if not where they were when the vectors were made.

        Raises:
            GalleryError: a file is missing, damaged, or doesn't fit the others.
        """
        try:
            store = FaissStore(Path(index))
            gallery = cls(store, None if img_dir is None else Path(img_dir))
            if not store.is_own:
                gallery._check_links(photos_too=img_dir is None)
        except (StoreError, CardError) as error:
            raise GalleryError(str(error)) from error
        return gallery

    def _check_links(self, photos_too: bool) -> None:
        """Find out whether files from somebody else lead only to each other, see `cards`."""
        card, vectors_path = self.store.card, self.store.vectors_path
        leads_out = (name for name in self.names if name.startswith("/") or ".." in name.split("/"))
        encoder_files = files_of(spec_of_card(card, vectors_path)) if card.encoder else []
        photos = [self.img_dir] if photos_too else []
        check_links(self.path, [vectors_path, *encoder_files, *photos, *map(self.img_dir.joinpath, leads_out)])

    def __reduce__(self) -> tuple[Any, ...]:
        """Give another process what it opens the gallery with; the encoder is loaded there anew."""
        return Gallery, (self.store, self.img_dir.absolute())

    def __len__(self) -> int:
        """Return how many photos can be found."""
        return self.store.present

    def __repr__(self) -> str:
        """Say what the gallery is made of."""
        return f"<Gallery of {len(self):,} photos: {self.encoder_label}, {self.index_label}>"

    @property
    def path(self) -> Path:
        """Where the gallery is opened from."""
        return self.store.path

    @property
    def img_dir(self) -> Path:
        """The photos' folder."""
        return self.store.img_dir if self._img_dir is None else self._img_dir

    @property
    def names(self) -> Sequence[str]:
        """The photos' names, by row, read as they are asked for."""
        return self.store.names

    @property
    def measure(self) -> Measure:
        """How similarity is measured."""
        return self.store.measure

    @property
    def encoder_label(self) -> str:
        """What the encoder is called, whether it is untrained, and whether it runs otherwise than for the gallery."""
        return self._encoder.label

    @property
    def is_trained(self) -> bool:
        """Whether the encoder has learnt from photos."""
        return self.store.card.trained

    @property
    def has_encoder(self) -> bool:
        """Whether it is known what made the vectors."""
        return bool(self.store.card.encoder)

    @property
    def index_label(self) -> str:
        """What the index is called, and whether its distances are exact."""
        return self.store.label

    @property
    def can_compare(self) -> bool:
        """Whether any two photos can be compared, at least approximately."""
        return self.store.can_compare

    @property
    def encoder(self) -> Encoder:
        """The encoder that made the gallery's vectors, loaded when it first has to run.

        Raises:
            GalleryError: it is unknown.
            EncoderError: it can't be loaded.
        """
        return self._encoder.encoder

    @property
    def runtime(self) -> Runtime:
        """What runs the encoder, made ready when it first has to.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        return self._encoder.runtime

    def warm_up(self) -> None:
        """Load the encoder and run it once, so that a photo is encoded in milliseconds from then on.

        Raises:
            GalleryError, EncoderError: see `encoder`.
        """
        self._encoder.warm_up()

    def search(self, query: object, k: int = 10, **how: Any) -> list[Hit]:
        """Return the photos most similar to a query.

        Args:
            query: a row number or name of the gallery, whose stored vector is taken; or a path, an address, the bytes
                of a photo, a PIL image or (h, w, 3) uint8 RGB pixels, which are encoded; or a vector (d,); or one of
                `query.Query`, which leaves nothing to guess. A list or tuple of these looks for what is similar to all
                of them.
            k: how many; the gallery may have fewer.
            how: see `search_many`.

        Returns:
            Hits, nearest first, and equally near ones by their rows: k, or all there are. Unless distances are
            approximate, a query from the gallery finds itself first, then its copies.

        Raises:
            GalleryError, ImageReadError, EncoderError: see `search_many`.
        """
        return self.search_many([query], k, **how)[0]

    def search_many(
        self,
        queries: Sequence[object],
        k: int = 10,
        *,
        nprobe: int | None = None,
        rerank: int | None = None,
        among: Among | None = None,
        suppress_near_duplicates: float = 0,
        focus: float | None = None,
        expand: int = 0,
        max_distance: float | None = None,
        min_similarity: float | None = None,
        find_photo: bool = True,
    ) -> list[list[Hit]]:
        """Return the photos most similar to each of several queries, which are encoded and looked up together.

        Args:
            queries: see `search`.
            k: likewise.
            nprobe: how many inverted lists to search: more is slower and misses less; None for the card's.
            rerank: how many candidates to re-rank exactly; 0 for the index's own distances, None for the card's.
            among: which photos may be found; None for all. k of these are found.
            suppress_near_duplicates: leaves out hits at most this far from a better one, greedily; 0 leaves out none.
                It looks at the nearest 5,000, or k or `rerank` where that is more.
            focus: below 0 finds the same photo though it was changed, above 0 photos of the same kind, 0 is the centred
                cosine, see `measure`; -1 to 1. None for 0.1, or 0 where the index has no components.
            expand: how many of the first hits to search by as well; 0 for none. Near-duplicates of the query
                and the first hit stay first; all other distances are to the expanded query.
            max_distance: the farthest that a hit may be; None for any distance.
            min_similarity: the least similarity of a hit, -1 to 1; None for any.
            find_photo: whether to detect and search for the photo in a path, an address or bytes, see `photo_in`.
                Pictures of the gallery stay whole.

        Raises:
            GalleryError: no such row, a photo without a vector, a vector of another dimension, no query, an unknown
                encoder, or a number that is out of range.
            ImageReadError: a query photo can't be read.
            EncoderError: the encoder can't be loaded.
        """
        _check_counts(k=(k, 1), nprobe=(nprobe, 1), rerank=(rerank, 0), expand=(expand, 0))
        _check_ranges(suppress_near_duplicates=(suppress_near_duplicates, 0, np.inf))
        bounds = {"max_distance": (max_distance, 0, np.inf), "min_similarity": (min_similarity, -1, 1)}
        _check_ranges(**{name: bound for name, bound in bounds.items() if bound[0] is not None})
        if not isinstance(among, Among | None):
            raise GalleryError(f"among={among!r}: it must be an Among")
        farthest = np.inf if max_distance is None else max_distance
        if min_similarity is not None:
            farthest = min(farthest, 2 - 2 * min_similarity)
        asked = [self._as_queries(query, find_photo) for query in queries]
        if not asked:
            return []
        ranking = Ranking(
            self.store, among, Effort(nprobe, rerank), self._focus(focus), expand, suppress_near_duplicates
        )
        own = [each[0].row if len(each) == 1 and isinstance(each[0], Row) else None for each in asked]
        found = ranking.nearest(self._vectors(asked), own, k)
        return [self._hits(rows[distances <= farthest], distances[distances <= farthest]) for rows, distances in found]

    def _hits(self, rows: Ids, distances: Floats) -> list[Hit]:
        img_dir = self.img_dir
        lines = zip(self.store.facts(rows), distances.tolist(), strict=True)
        return [
            Hit(rank, photo.row, photo.name, img_dir / photo.name, distance, 1 - distance / 2)
            for rank, (photo, distance) in enumerate(lines, 1)
        ]

    def _focus(self, focus: float | None) -> float:
        if focus is None:
            return FOCUS if self.measure.can_focus else 0
        _check_ranges(focus=(focus, -1, 1))
        if focus and not self.measure.can_focus:
            raise GalleryError(
                "this gallery can't be focused: its index has no components; build it without --pca none"
            )
        return float(focus)

    def as_query(self, thing: object, find_photo: bool = True) -> Query:
        """Return what a person means, see `query.as_query`."""
        return as_query(thing, self._row_of, find_photo)

    def _as_queries(self, query: object, find_photo: bool) -> list[Query]:
        several = query if isinstance(query, list | tuple) else [query]
        if not several:
            raise GalleryError("there is no query: give at least one")
        return [self.as_query(each, find_photo) for each in several]

    def vector(self, query: object, find_photo: bool = False) -> Floats:
        """Return the feature vector (d,) float32 of a query; for several, of the mean of their centred unit vectors.

        Args:
            query: see `search`.
            find_photo: see `search_many`.

        Raises:
            GalleryError, ImageReadError, EncoderError: see `search_many`.
        """
        vector: Floats = self._vectors([self._as_queries(query, find_photo)])[0]
        return vector

    def _vectors(self, asked: Sequence[Sequence[Query]]) -> Floats:
        """Return the feature vectors (q, d) float32 of queries of one or several parts; all photos are one batch."""
        parts = [self._or_its_photo(part) for query in asked for part in query]
        photos = [part for part in parts if isinstance(part, Photo)]
        encoded = iter(self._photos_in(photos) if photos else [])
        vectors = [next(encoded)[0] if isinstance(part, Photo) else self._known_vector(part) for part in parts]
        ends = np.cumsum([len(query) for query in asked]).tolist()
        means = [self._mean(vectors[end - len(query) : end]) for query, end in zip(asked, ends, strict=True)]
        return np.stack(means)

    def _mean(self, vectors: Sequence[Floats]) -> Floats:
        if len(vectors) == 1:
            return vectors[0]
        units = self.measure.units(np.stack(vectors))
        return self._checked(self.measure.vectors_of(units.mean(axis=0)[None])[0])

    def _or_its_photo(self, part: Query) -> Query:
        """Return a part of a query; the photo of a row whose vector the store can't give."""
        if not isinstance(part, Row):
            return part
        self._check_row(part.row)
        return part if self.can_compare else Photo(self.photo_path(part.row))

    def _known_vector(self, part: Row | Vector) -> Floats:
        if isinstance(part, Vector):
            return self._checked(part.values)
        vector: Floats = self.store.vectors(np.array([part.row]))[0]
        if not vector.any():
            photo = self.facts([part.row])[0]
            raise GalleryError(f"{photo.name} has no vector: {photo.reason or 'its row is all zeros'}")
        return vector

    def photo_in(self, picture: Source) -> tuple[Floats, Box | None]:
        """Return what to search with for a picture that may hold a photo, as a screenshot does.

        Args:
            picture: see `images.read_image`.

        Returns:
            The feature vector (d,) float32 of the photo in it, and where it is, see `photo_region`; of the whole
            picture, and None, where it holds none or is in the gallery itself.

        Raises:
            GalleryError, ImageReadError, EncoderError: see `search_many`.
        """
        return self._photos_in([Photo(picture, find=True)])[0]

    def _photos_in(self, photos: Sequence[Photo]) -> list[tuple[Floats, Box | None]]:
        """Return `photo_in` of photos; of the whole ones where no photo is to be found in them."""
        encoder, pixels, boxes = self.encoder, [], []
        for photo in photos:
            source = photo.source
            if photo.find:
                source = Image.fromarray(read_image(source)) if is_url(source) else source  # fetched once
            boxes.append(photo_region(read_image(source, DETECTION_SIZE)) if photo.find else None)
            pixels.append(encoder.pixels(source))
            if boxes[-1]:
                pixels.append(encoder.pixels(cropped(source, boxes[-1])))
        vectors = map(self._checked, self._encoder.encode(pixels))
        return [
            self._whole_or_region(next(vectors), next(vectors), box) if box else (next(vectors), None) for box in boxes
        ]

    def _whole_or_region(self, whole: Floats, photo: Floats, box: Box) -> tuple[Floats, Box | None]:
        """Return the vector of a whole picture if the gallery has it, else that of the photo in it, with its box."""
        _, distances = self.store.search(np.stack([whole, photo]), 1, focus=self._focus(None))
        return (whole, None) if distances[0, 0] <= min(distances[1, 0], SAME_PICTURE_DISTANCE) else (photo, box)

    def units(self, rows: Sequence[int] | Ids) -> Floats:
        """Return the centred unit vectors (r, d) float32 of rows (r,), without the vectors file by the components.

        Raises:
            GalleryError: that file is missing, and the index holds no components.
        """
        self._check_can_compare()
        return self.measure.units(self.store.vectors(np.asarray(rows, np.int64)))

    def _check_can_compare(self) -> None:
        if not self.can_compare:
            raise GalleryError(f"the vectors file {self.store.vectors_path} is missing, which this needs: put it back")

    def distances(self, vector: Floats, rows: Sequence[int] | Ids, focus: float = 0) -> Floats:
        """Return the distances (r,) float32 of a vector (d,) to rows (r,), exact by the vectors file, see `search`.

        Raises:
            GalleryError: that file is missing, and the index holds no components; or see `search`.
        """
        self._check_can_compare()
        return self.store.distances(self._checked(vector), np.asarray(rows, np.int64), self._focus(focus))

    def estimated_distances(self, vector: Floats) -> Floats:
        """Return the distances (n,) float32 of a vector (d,) to all rows, as the index estimates them; nan for none.

        Raises:
            GalleryError: see `search`.
        """
        effort = Effort(EXHAUSTIVE.nprobe, rerank=0)
        rows, distances = self.store.search(self._checked(vector)[None], max(1, len(self)), effort=effort)
        estimated = np.full(len(self.store), np.nan, np.float32)
        estimated[rows[rows >= 0]] = distances[rows >= 0]
        return estimated

    def row(self, query: object) -> int | None:
        """Return the row of a query that is a photo of the gallery, by number, name or path; None for all others.

        Raises:
            GalleryError: there is no row of that number.
        """
        asked = self.as_query(query)
        if not isinstance(asked, Row):
            return None
        self._check_row(asked.row)
        return asked.row

    def _row_of(self, name: str) -> int | None:
        if is_url(name):
            return None
        row = self.store.row_of(name)
        inside = os.path.relpath(os.path.abspath(name), os.path.abspath(self.img_dir))
        return self.store.row_of(inside) if row is None else row

    def _check_row(self, row: int) -> None:
        if not 0 <= row < len(self.store):
            raise GalleryError(f"there is no photo {row}: the gallery has 0 to {len(self.store) - 1}")

    def facts(self, rows: Sequence[int] | Ids) -> list[Facts]:
        """Return what is known of the photos of rows (r,)."""
        return self.store.facts(rows)

    def photo_path(self, row: int) -> Path:
        """Return where the photo of a row should lie."""
        return self.img_dir / self.names[row]

    def searchable_rows(self, among: Among | None = None) -> Ids:
        """Return the rows (n,) of all photos that can be found."""
        return np.flatnonzero(self.store.matching(among or Among()))

    @property
    def dimension(self) -> int:
        """The dimension of its vectors."""
        return self.store.card.d

    def _checked(self, vector: NDArray[np.generic]) -> Floats:
        d = self.store.card.d
        if len(vector) != d:
            raise GalleryError(f"the vector has dimension {len(vector)}, those of the gallery {d}")
        if vector.dtype.kind not in "iuf":
            raise GalleryError(f"the vector holds {vector.dtype}, not numbers")
        with np.errstate(over="ignore"):
            values = np.asarray(vector, np.float32)
        if not np.isfinite(values).all() or not values.any():
            raise GalleryError("the vector has no direction: it is all zeros, or has values that are not finite")
        return values


def _check_counts(**counts: tuple[object, int]) -> None:
    for name, (number, least) in counts.items():
        is_default = number is None and name != "k"
        if not is_default and (not isinstance(number, Integral) or number < least):
            raise GalleryError(f"{name}={number!r}: it must be a whole number, {least} or more")


def _check_ranges(**numbers: tuple[object, float, float]) -> None:
    for name, (number, least, most) in numbers.items():
        if not (isinstance(number, int | float | np.number) and least <= number <= most):
            between = f"{least} or more" if most == np.inf else f"from {least} to {most}"
            raise GalleryError(f"{name}={number!r}: it must be a number, {between}")


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
