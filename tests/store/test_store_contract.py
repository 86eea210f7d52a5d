"""What every store has to do, see `store.base`, against the same in float64; for each there is."""

import fnmatch
import inspect
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors
from memory_store import MemoryStore
from msgspec.structs import replace

from similar_images.cards import VectorsCard
from similar_images.search.gallery import Gallery, GalleryError
from similar_images.search.query import Row, Vector
from similar_images.store.base import EXHAUSTIVE, Among, Effort, Store, StoreError
from similar_images.store.facts import Facts
from similar_images.store.faiss_store import FaissStore
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.measure import Measure
from similar_images.store.vectors import normalise, open_vectors

D = 160
EXACT = 2e-6
HALF = 4e-3  # where a focus weighs components that an index holds in 16 bits
SETTINGS = {"flat": IndexSettings(), "lists": IndexSettings(), "raw": IndexSettings(pca=None)}
SIZES = {"memory": 300, "flat": 300, "lists": 1300, "raw": 1300}
FOLDERS = ("car", "car/red", "sea", "")


def points(n: int, seed: int = 0) -> np.ndarray:
    """Return vectors (n, D) float32 in clusters, of different lengths."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((12, D))
    values = centres[rng.integers(0, 12, n)] + rng.standard_normal((n, D)) * np.geomspace(2, 0.2, D)
    return (values * rng.uniform(0.1, 10, (n, 1))).astype(np.float32)


def facts(row: int) -> Facts:
    folder, day = FOLDERS[row % 4], 1 + row % 28
    name = f"{folder}/{row}.jpg".lstrip("/")
    taken = None if row % 5 == 0 else f"2024-{1 + row % 12:02}-{day:02}T12:00:00"
    return Facts(row, name, label=folder, taken=taken, width=row + 1, height=7)


@dataclass
class Opened:
    """A store, and what it should hold.

    Attributes:
        store: the store.
        rows: (n, D) its vectors, zeros where there is no photo.
        photos: what is known of them.
        again: opens it once more.
    """

    store: Store
    rows: np.ndarray
    photos: list[Facts]
    again: Callable[[], Store]

    def units(self, rows: np.ndarray, focus: float) -> np.ndarray:
        """Return units in float64; rows of zeros become nan."""
        measure = self.store.measure
        with np.errstate(invalid="ignore"):
            units = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
            if measure.mean is not None:
                units -= measure.mean
                units /= np.linalg.norm(units, axis=1, keepdims=True)
            components = measure.components[: len(measure.scales)].astype(np.float64)
            along = units @ components.T
            units += (along * (measure.scales.astype(np.float64) ** focus - 1)) @ components
            return units / np.linalg.norm(units, axis=1, keepdims=True)

    def distances(self, queries: np.ndarray, focus: float = 0) -> np.ndarray:
        """Return all distances (q, n) in float64, inf to what has no photo."""
        differences = self.units(queries, focus)[:, None] - self.units(self.rows, focus)[None]
        squares = (differences**2).sum(axis=2)
        return np.where(np.isnan(squares), np.inf, squares)

    def queries(self) -> np.ndarray:
        """Return vectors that it has, and others."""
        return np.concatenate([self.rows[self.rows.any(axis=1)][::100], points(4, seed=9)])

    def check(
        self,
        k: int = 10,
        among: Among | None = None,
        allowed: Callable[[Facts], bool] = lambda photo: True,
        effort: Effort = EXHAUSTIVE,
        focus: float = 0,
        atol: float = EXACT,
        queries: np.ndarray | None = None,
    ) -> None:
        """Compare what searches find with what is nearest of what is allowed."""
        queries = self.queries() if queries is None else queries
        exact = self.distances(queries, focus)
        exact[:, [not allowed(photo) for photo in self.photos]] = np.inf
        nearest = np.pad(np.sort(exact, axis=1), ((0, 0), (0, k)), constant_values=np.inf)[:, :k]
        rows, distances = self.store.search(queries, k, among, effort, focus)
        assert (rows.dtype, distances.dtype, rows.shape) == (np.int64, np.float32, (len(queries), k))
        np.testing.assert_allclose(distances, nearest, atol=atol)
        for line, found, away in zip(exact, rows, distances, strict=True):
            there = found >= 0
            assert len({*found[there].tolist()}) == there.sum() and (found[~there] == -1).all()
            assert np.array_equal(np.isinf(away), ~there) and (np.diff(away[there]) >= 0).all()
            np.testing.assert_allclose(away[there], line[found[there]], atol=atol)

    def check_all(self) -> None:
        """Compare all that a store says of its photos with what it should hold."""
        store, n = self.store, len(self.photos)
        present = [photo.state == "present" for photo in self.photos]
        assert (len(store), len(store.names), store.present) == (n, n, sum(present))
        assert list(store.names) == [photo.name for photo in self.photos] and store.names[n - 1] == self.photos[-1].name
        assert store.facts(range(n)) == self.photos
        labels = [photo.label for photo in self.photos if photo.state == "present"]
        assert list(store.labels().items()) == [(label, labels.count(label)) for label in sorted({*labels})]
        for photo in self.photos[:: n // 20]:
            rows = [each.row for each in self.photos if each.name == photo.name and each.state != "removed"]
            assert store.row_of(photo.name) == (min(rows) if rows else None)
        assert np.array_equal(store.matching(Among()), present)
        assert np.array_equal(store.vectors(np.arange(n)), self.rows)
        chunks = list(store.chunks())
        assert np.array_equal(np.concatenate([chunk for _, chunk in chunks]), self.rows)
        assert [start for start, _ in chunks] == np.cumsum([0, *(len(chunk) for _, chunk in chunks[:-1])]).tolist()
        units = np.nan_to_num(self.units(self.rows, 0))
        np.testing.assert_allclose(
            store.components(np.arange(n)), units @ store.measure.components.T, atol=1e-3 * bool(store.nlist) + 1e-5
        )
        query = self.queries()[:1]
        distances = store.distances(query[0], np.arange(n))
        np.testing.assert_allclose(distances, self.distances(query)[0], atol=EXACT)
        self.check(queries=query)

    def remove(self, rows: list[int]) -> None:
        self.store.remove(rows)
        self.rows = self.rows.copy()
        self.rows[rows] = 0
        for row in rows:
            self.photos[row] = replace(self.photos[row], state="removed", reason="removed")

    def add(self, count: int, seed: int) -> list[int]:
        """Add photos, and return their rows."""
        n, vectors = len(self.photos), points(count, seed)
        new = [facts(row) for row in range(n, n + count)]
        rows = self.store.add(vectors, [replace(photo, row=0) for photo in new])
        assert rows.tolist() == [photo.row for photo in new]
        self.rows, self.photos = np.concatenate([self.rows, vectors]), self.photos + new
        return rows.tolist()


def in_memory(rows: np.ndarray, photos: list[Facts]) -> MemoryStore:
    """Return a store that measures as the default index does."""
    units = normalise(rows[rows.any(axis=1)])
    centred = Measure.about(units.mean(axis=0), len(units))
    _, scales, components = np.linalg.svd(centred.units(units), full_matrices=False)
    measure = Measure(centred.mean, components[:20], 1 + scales[:8] / scales[8])
    return MemoryStore(rows, list(photos), measure)


def held(n: int) -> tuple[np.ndarray, list[Facts]]:
    """Return vectors, and what is known of their photos, two of which could not be read."""
    rows, photos = points(n), [facts(row) for row in range(n)]
    for row in (3, 77):
        rows[row], photos[row] = 0, replace(photos[row], state="unreadable", reason="cut off")
    return rows, photos


@pytest.fixture(scope="module", params=SIZES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store's files, which a memory has none in."""
    folder = tmp_path_factory.mktemp(kind)
    if kind in SETTINGS:
        rows, photos = held(SIZES[kind])
        vectors = open_vectors(write_vectors(folder / "v.saved_predictions.npy", rows, photos=photos))
        build_index(vectors, folder / "v.faiss.index", SETTINGS[kind])
    return folder


@pytest.fixture
def opened(kind: str, built: Path, tmp_path: Path) -> Opened:
    """Each store with its photos, which a test may change."""
    rows, photos = held(SIZES[kind])
    if kind == "memory":
        store = in_memory(rows, photos)
        return Opened(store, rows, photos, lambda: store)
    shutil.copytree(built, tmp_path / kind)
    index = tmp_path / kind / "v.faiss.index"
    return Opened(FaissStore(index), rows, photos, lambda: FaissStore(index))


def test_store_has_the_whole_seam_and_takes_its_arguments(opened: Opened) -> None:
    for name, wanted in vars(Store).items():
        if name.startswith("_"):
            continue
        if callable(wanted):
            given = inspect.signature(getattr(type(opened.store), name)).parameters.values()
            assert [(each.name, each.default) for each in given] == [
                (each.name, each.default) for each in inspect.signature(wanted).parameters.values()
            ]
        else:
            assert hasattr(opened.store, name)
    assert isinstance(opened.store.card, VectorsCard) and opened.store.card.d == D


def test_search_for_many_finds_the_nearest_of_each_at_any_scale(opened: Opened) -> None:
    opened.check()
    opened.check(queries=opened.queries() * np.float32(1e-6))
    many, _ = opened.store.search(opened.queries(), 10, effort=EXHAUSTIVE)
    one_by_one = [opened.store.search(query[None], 10, effort=EXHAUSTIVE)[0][0] for query in opened.queries()]
    assert np.array_equal(many, one_by_one)


def test_search_by_default_finds_most_of_the_nearest_at_their_exact_distances(opened: Opened) -> None:
    queries = opened.queries()
    exact = opened.distances(queries)
    rows, distances = opened.store.search(queries, 10)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, rows, 1), atol=EXACT)
    near = distances <= np.sort(exact, axis=1)[:, 9:10] + EXACT
    assert near.all() if opened.store.finds_all else near.mean() > 0.9


@pytest.mark.parametrize("focus", [-0.5, 0.1, 1])
def test_search_with_a_focus_weighs_components(opened: Opened, focus: float) -> None:
    focus = focus if opened.store.measure.can_focus else 0
    opened.check(focus=focus, atol=HALF)
    distances = opened.store.distances(opened.queries()[0], np.arange(100), focus)
    np.testing.assert_allclose(distances, opened.distances(opened.queries()[:1], focus)[0, :100], atol=HALF)


KINDS = {
    "folder": (Among(folder="car"), lambda photo: photo.name.startswith("car/") and "red" not in photo.name),
    "top folder": (Among(folder=""), lambda photo: "/" not in photo.name),
    "part of a name": (Among(pattern=" R "), lambda photo: "r" in photo.name),
    "whole name": (Among(pattern="CAR/*1?.jpg"), lambda photo: fnmatch.fnmatch(photo.name, "car/*1?.jpg")),
    "labels": (Among(labels=("sea", "car")), lambda photo: photo.label in ("sea", "car")),
    "no label": (Among(labels=()), lambda photo: False),
    "taken": (Among(taken=("2024-02", "2024-04")), lambda photo: (photo.taken or "")[5:7] in ("02", "03", "04")),
    "taken on a day": (Among(taken=("2024-02-02", "2024-02-02")), lambda photo: (photo.taken or "")[5:10] == "02-02"),
    "rows": (Among(rows=(5, 3, 200, 10**6)), lambda photo: photo.row in (5, 200)),
    "no rows": (Among(rows=()), lambda photo: False),
    "without": (Among(without=(0, 50, 51, 10**6)), lambda photo: photo.row not in (0, 50, 51)),
    "all at once": (
        Among("sea", "1", ("sea", "x"), ("2024", "2024-11"), tuple(range(150)), (10,)),
        lambda photo: photo.label == "sea"
        and "1" in photo.name
        and (photo.taken or "2024-12")[5:7] != "12"
        and photo.row < 150
        and photo.row != 10,
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", KINDS)
def test_search_among_finds_k_of_these_and_no_others(opened: Opened, asked: str) -> None:
    among, allowed = KINDS[asked]
    opened.check(among=among, allowed=allowed)
    opened.check(among=among, allowed=allowed, effort=Effort())
    matching = [bool(allowed(photo)) and photo.state == "present" for photo in opened.photos]
    assert np.array_equal(opened.store.matching(among), matching)


def test_search_for_more_than_there_are_pads_and_finds_all(opened: Opened) -> None:
    n = len(opened.photos)
    for k in (n - 2, n, n + 50):
        for effort in (EXHAUSTIVE, Effort()):
            opened.check(k=k, effort=effort)


def test_search_finds_equally_near_photos_by_their_rows(opened: Opened) -> None:
    copies = np.repeat(points(1, seed=5), 30, axis=0)
    rows = opened.store.add(copies, [Facts(0, f"copy {number}.jpg") for number in range(30)])
    found, distances = opened.store.search(copies[:1], 12)
    assert found[0].tolist() == rows[:12].tolist() and np.allclose(distances, 0, atol=EXACT)


def test_removed_photos_are_never_found_and_leave_zeros(opened: Opened) -> None:
    nearest = opened.store.search(opened.queries(), 5)[0]
    version, before = opened.store.version, opened.again()
    opened.remove(sorted({*nearest.ravel().tolist()}))
    assert opened.store.version != version
    opened.check()
    opened.check(k=len(opened.photos), effort=Effort())
    opened.check_all()
    opened.remove([int(nearest[0, 0]), 3])  # they have gone before, or were never there
    opened.check_all()
    opened.store = before
    opened.check()


def test_remove_of_a_row_that_is_not_there_removes_none(opened: Opened) -> None:
    for rows, named in (([5, 10**6], 10**6), ([5, -1], -1)):
        with pytest.raises(StoreError, match=f"photo {named}|no such photo"):
            opened.store.remove(rows)
    opened.check_all()


def test_added_photos_are_found_by_the_next_search(opened: Opened) -> None:
    version, before = opened.store.version, opened.again()
    added = opened.add(40, seed=3)
    assert opened.store.version != version
    for store in (before, opened.store):
        assert store.search(opened.rows[added], 1)[0][:, 0].tolist() == added
    opened.check(among=Among(rows=tuple(added)), allowed=lambda photo: photo.row in added)
    opened.check(focus=0.1 * opened.store.measure.can_focus, atol=HALF)
    opened.check_all()


def test_add_of_vectors_that_do_not_fit_adds_none(opened: Opened) -> None:
    for vectors, count in ((points(2)[:, :-1], 2), (points(2), 1)):
        with pytest.raises(StoreError):
            opened.store.add(vectors, [facts(row) for row in range(count)])
    opened.check_all()


def test_store_of_which_all_is_removed_finds_nothing_and_takes_photos_again(opened: Opened) -> None:
    opened.remove(list(range(len(opened.photos))))
    opened.check(queries=points(2, seed=4))
    opened.check_all()
    added = opened.add(3, seed=6)
    opened.check(queries=points(2, seed=4), effort=Effort())
    opened.remove(added[:1])
    opened.store = opened.again()
    opened.check(queries=points(2, seed=4))
    opened.check_all()


def test_store_that_was_opened_again_or_pickled_is_the_same(opened: Opened) -> None:
    opened.remove([8, 9])
    opened.add(5, seed=7)
    opened.remove([len(opened.photos) - 1])
    found = opened.store.search(opened.queries(), 20)
    for store in (opened.again(), pickle.loads(pickle.dumps(opened.store))):
        assert np.array_equal(store.search(opened.queries(), 20), found)
        opened.store = store
        opened.check_all()


def test_gallery_searches_any_store(opened: Opened) -> None:
    opened.remove([100])
    gallery = Gallery(opened.store, Path("photos"))
    queries = [Row(50), opened.photos[150].name, Vector(points(1, seed=2)[0])]
    asked = np.concatenate([opened.rows[[50, 150]], points(1, seed=2)])
    exact = opened.distances(asked)
    for line, hits in zip(exact, gallery.search_many(queries, 7, nprobe=10**4, rerank=10**4, focus=0), strict=True):
        assert [hit.image_id for hit in hits] == np.argsort(line, kind="stable")[:7].tolist()
        assert [hit.name for hit in hits] == [opened.photos[hit.image_id].name for hit in hits]
        np.testing.assert_allclose([hit.distance for hit in hits], np.sort(line)[:7], atol=EXACT)
    assert gallery.search_many(queries, 3) == [gallery.search(query, 3) for query in queries]
    assert len(gallery) == len(opened.photos) - 3 and gallery.searchable_rows(Among(rows=(100, 101))).tolist() == [101]
    assert gallery.search(50, 2, suppress_near_duplicates=0.01, expand=3)[0].image_id == 50
    again = pickle.loads(pickle.dumps(gallery))
    assert again.search(50, 3)[0].path == Path("photos").absolute() / opened.photos[50].name
    with pytest.raises(GalleryError, match=r"car/red/77.jpg|77.*no vector"):
        gallery.search(77)
    with pytest.raises(GalleryError, match="removed"):
        gallery.search(100)
