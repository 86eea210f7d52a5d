import io
import shutil
import tracemalloc
from pathlib import Path

import faiss
import msgspec
import numpy as np
import pytest
from conftest import centred, screenshot, write_vectors
from http_server import serve
from PIL import Image

from similar_images.cards import IndexCard, read_card, write_card
from similar_images.encoding.runtimes import Runtime
from similar_images.encoding.weights import EncoderError
from similar_images.extraction.extraction import extract
from similar_images.files import digest
from similar_images.photos import download
from similar_images.photos.file_list import list_photos
from similar_images.photos.images import ImageReadError, read_image
from similar_images.search.gallery import Gallery, GalleryError, Hit, default_index
from similar_images.search.query import Photo, Row, Vector
from similar_images.store.base import Among
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import normalise, open_vectors


@pytest.fixture
def moved(index_file: Path, tmp_path: Path) -> Path:
    """A copy of the gallery's files that a test may spoil; the index's path."""
    shutil.copytree(index_file.parent, tmp_path / "copy")
    return tmp_path / "copy" / index_file.name


def gallery_of(rows: np.ndarray, folder: Path, factory: str | None = None) -> Gallery:
    """Return an opened gallery with these vectors, and with codes that are quickly trained."""
    vectors = write_vectors(folder / "v.saved_predictions.npy", rows.astype(np.float32))
    build_index(open_vectors(vectors), folder / "v.faiss.index", IndexSettings(nbits=4, factory=factory))
    return Gallery.open(folder / "v.faiss.index")


def found(hits: list[Hit]) -> list[int]:
    return [hit.image_id for hit in hits]


def test_search_by_row_name_path_and_vector_agree_without_an_encoder(gallery: Gallery, photos: Path) -> None:
    opened = Gallery.open(gallery.path)
    expected = opened.search(7, k=5)
    name = opened.names[7]
    for query in (np.int64(7), name, photos / name, str(photos / name), opened.store.vectors(np.array([7]))[0]):
        assert opened.search(query, k=5) == expected
    assert opened._encoder._encoder is None


def test_search_by_photo_in_any_form_finds_it_first(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.1")
    path = photos / gallery.names[30]
    with serve(photos) as (address, _):
        queries = [path.read_bytes(), Image.open(path), read_image(path), f"{address}/{gallery.names[30]}"]
        for query in queries:
            first = gallery.search(query, k=3)[0]
            assert (first.image_id, first.rank) == (30, 1) and first.distance < 1e-3


def test_hits_say_what_they_are(gallery: Gallery, photos: Path) -> None:
    hits = gallery.search(0, k=10, focus=0)
    unit = centred(gallery.store.vectors(np.arange(75)))
    exact = np.argsort(-(unit @ unit[0]), kind="stable")[:10]
    assert [hit.image_id for hit in hits] == exact.tolist()
    assert [hit.rank for hit in hits] == list(range(1, 11))
    for hit in hits:
        assert hit.name == gallery.names[hit.image_id] and hit.path == photos / hit.name and hit.path.exists()
        assert hit.similarity == pytest.approx(unit[0] @ unit[hit.image_id], abs=1e-5)
        assert hit.distance == pytest.approx(((unit[0] - unit[hit.image_id]) ** 2).sum(), abs=1e-5)


def test_copies_are_found_in_their_order_after_the_query_itself(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 8))
    rows[10:30] = rows[5]
    opened = gallery_of(rows, tmp_path, "Flat")
    for k in (1, 3, 21):
        assert found(opened.search(17, k)) == [17, 5, *(row for row in range(10, 30) if row != 17)][:k]
        assert found(opened.search("17.jpg", k)) == found(opened.search(17, k))
        assert found(opened.search(rows[17].astype(np.float32), k)) == [5, *range(10, 30)][:k]
    assert [hit.distance for hit in opened.search(17, 21)] == [0] * 21
    distances = opened.distances(opened.vector(0), np.arange(40))
    assert found(opened.search(0, 40)) == np.lexsort((np.arange(40), distances)).tolist()


def test_copies_among_codes_are_found_after_the_query_itself(tmp_path: Path) -> None:
    rows = np.repeat(np.random.default_rng(0).standard_normal((2, 16)), [1300, 1], axis=0)
    opened = gallery_of(rows, tmp_path)
    assert not opened.store.finds_all
    for row in (0, 700, 1299):
        hits = opened.search(row, 3)
        assert found(hits)[0] == row and [hit.distance for hit in hits] == [0, 0, 0]
        assert found(opened.search(row, 1)) == [row]
    assert found(opened.search(700, 5, nprobe=100, rerank=1301)) == [700, 0, 1, 2, 3]
    among = Among(without=(700,))
    assert 700 not in found(opened.search(700, 1300, among=among))


def test_search_finds_k_although_they_are_in_lists_far_away(tmp_path: Path) -> None:
    rows = np.repeat(np.random.default_rng(0).standard_normal((2, 16)), [1300, 1], axis=0)
    opened = gallery_of(rows, tmp_path)
    assert opened.store.nlist == 33 and opened.store.effort.nprobe == 33
    for k in (5, 1300, 1301, 5000):
        for query in (0, 1300):
            for options in ({}, {"rerank": 0}, {"nprobe": 1}):
                hits = opened.search(query, k, **options)
                assert len(set(found(hits))) == len(hits) == min(k, 1301)


def test_search_suppressing_near_duplicates_finds_what_lies_behind_many_near_duplicates(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    near = random.standard_normal(64) + 1e-3 * random.standard_normal((1300, 64))
    rows = np.concatenate([near, random.standard_normal((20, 64))])
    opened = gallery_of(rows, tmp_path)
    exact = opened.distances(opened.vector(0), np.arange(1320), focus=0.1)
    hits = opened.search(0, 10, suppress_near_duplicates=0.05)
    assert found(hits)[0] == 0 and len(hits) == 10
    assert set(found(hits)[1:]) <= set(range(1300, 1320))
    assert found(opened.search(0, 10, nprobe=100, rerank=1320, suppress_near_duplicates=0.05)) == [
        0,
        *sorted(range(1300, 1320), key=lambda row: exact[row])[:9],
    ]
    assert len(opened.search(0, 100, suppress_near_duplicates=0.05)) == 21


def test_search_suppressing_near_duplicates_looks_at_5000_at_the_most_and_in_little_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal(256) + 1e-3 * random.standard_normal((9600, 256))
    opened = gallery_of(rows, tmp_path, "SQ8")
    looked_at: list[int] = []
    vectors = opened.store.vectors
    opened.store.vectors = lambda ids: looked_at.append(len(ids)) or vectors(ids)
    tracemalloc.start()
    assert found(opened.search(0, 10, suppress_near_duplicates=0.1)) == [0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(looked_at) <= 250 + 5000 and max(looked_at) <= 64 and peak < 5_000_000


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("factory", ["Flat", None])
def test_search_does_not_depend_on_the_scale_of_vectors(tmp_path: Path, factory: str | None, scale: float) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True) if factory else centred(rows)
    exact = ((unit - unit[3]) ** 2).sum(axis=1)
    opened = gallery_of(rows * np.float32(scale), tmp_path, factory)
    for query in (3, rows[3], rows[3] * np.float32(scale), rows[3].astype(np.float64) * 1e-30):
        hits = opened.search(query, 10, nprobe=100, rerank=300, focus=0)
        assert found(hits) == np.argsort(exact)[:10].tolist()
        np.testing.assert_allclose([hit.distance for hit in hits], np.sort(exact)[:10], atol=1e-5)


def test_index_of_an_earlier_version_that_holds_no_zeros_finds_all_others(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    rows[[3, 17]] = 0
    path, known = gallery_of(rows, tmp_path, "IVF1,Flat").path, np.flatnonzero(rows.any(axis=1))
    index = faiss.read_index(str(path))
    index.reset()
    index.add_with_ids(normalise(rows[known]), known)
    faiss.write_index(index, str(path))
    write_card(path, msgspec.structs.replace(read_card(path, IndexCard), missing=[], digest=digest(path)))
    opened = Gallery.open(path)
    for options in ({}, {"rerank": 0}):
        assert sorted(found(opened.search(29, 30, **options))) == known.tolist()


def test_search_among_finds_no_rows_of_zeros_of_vectors_without_card(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    rows[[3, 17]] = 0
    np.save(tmp_path / "v.npy", rows)
    (tmp_path / "v.npy.txt").write_text("".join(f"{row}.jpg\n" for row in range(30)))
    build_index(open_vectors(tmp_path / "v.npy"), tmp_path / "v.faiss.index", IndexSettings())
    opened = Gallery.open(tmp_path / "v.faiss.index")
    for k in (10, 30):
        assert not {3, 17} & set(found(opened.search(0, k, among=Among())))
        assert not {3, 17} & set(found(opened.search(0, k)))


def test_search_gives_no_more_than_there_is(gallery: Gallery) -> None:
    assert len(gallery.search(0, k=1000)) == len(gallery) == 75


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (75, "there is no photo 75: the gallery has 0 to 74"),
        (-1, "there is no photo -1"),
        (np.ones(7), "the vector has dimension 7, those of the gallery 1280"),
        (np.zeros(1280), "no direction"),
        (np.full(1280, np.nan), "no direction"),
        (np.zeros((4, 4)), "pixels must be"),
        (np.full(1280, 1e39), "no direction"),
        (np.array(["a"] * 1280), "not numbers"),
        (np.ones(1280, np.bool_), "not numbers"),
        (np.ones(1280, np.complex64), "not numbers"),
        (True, "True is no query"),
        (np.True_, "is no query"),
        (2.0, "2.0 is no query"),
        (None, "None is no query"),
        ({1, 2}, "is no query"),
        (bytearray(b"photo"), "is no query"),
        ([1, None], "None is no query"),
        ([1.5], "1.5 is no query"),
        ([], "at least one"),
    ],
)
def test_search_for_what_cannot_be_says_so(gallery: Gallery, query: object, reason: str) -> None:
    with pytest.raises(GalleryError, match=reason):
        gallery.search(query)


def test_search_with_bad_numbers_or_photos_says_so(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="k=0: it must be a whole number, 1 or more"):
        gallery.search(0, k=0)
    for numbers in ({"k": 2.5}, {"k": "3"}, {"nprobe": 0}, {"nprobe": 1.5}, {"rerank": -1}, {"rerank": "all"}):
        with pytest.raises(GalleryError, match="it must be a whole number"):
            gallery.search(0, **numbers)
    for distance in (-1, np.nan, "near", None):
        with pytest.raises(GalleryError, match=r"suppress_near_duplicates=.*: it must be a number, 0 or more"):
            gallery.search(0, suppress_near_duplicates=distance)
    with pytest.raises(ImageReadError, match="no such file"):
        gallery.search(tmp_path / "missing.jpg")


def test_gallery_that_moved_as_a_whole_still_opens(moved: Path) -> None:
    hit = Gallery.open(moved).search(0, k=1)[0]
    assert hit.path.exists() and moved.parent in hit.path.parents


def test_gallery_without_vectors_is_approximate_and_says_so(
    tmp_path: Path, runtime: Runtime, photos: Path, gallery: Gallery
) -> None:
    vectors = tmp_path / "v.saved_predictions.npy"
    extract(list_photos(photos), photos, vectors, runtime)
    build_index(open_vectors(vectors), tmp_path / "v.faiss.index", IndexSettings(nbits=4))
    whole = Gallery.open(tmp_path / "v.faiss.index")
    assert "approximate" not in repr(whole) and whole.search(3, k=1)[0].distance < 1e-5
    vectors.unlink()
    opened = Gallery.open(tmp_path / "v.faiss.index")
    assert "approximate: the vectors file is missing" in repr(opened)
    hits = opened.search(3, k=20)  # by the components that the index holds
    assert hits[0].image_id == 3 and opened._encoder._encoder is None
    fewer, shared = opened.search([3, 4], 10, suppress_near_duplicates=0.1), whole.search(3, k=20)
    assert len({hit.image_id for hit in hits} & {hit.image_id for hit in shared}) > 15 and len(fewer) == 10


def test_gallery_of_files_that_do_not_belong_together_is_refused(moved: Path, photos: Path, runtime: Runtime) -> None:
    vectors = moved.with_name("photos.saved_predictions.npy")
    extract(list_photos(photos)[::-1], photos, vectors, runtime, overwrite=True)
    with pytest.raises(GalleryError, match=r"built from other vectors.*build_search_db\.py --overwrite"):
        Gallery.open(moved)
    for file in (vectors, vectors.with_name(vectors.name + ".txt"), moved.with_name("photos.catalogue.sqlite")):
        file.unlink(missing_ok=True)
    with pytest.raises(GalleryError, match=r"file list .* is missing"):
        Gallery.open(moved)


def test_gallery_whose_encoder_changed_refuses_new_photos_only(moved: Path, photo: Path) -> None:
    opened = Gallery.open(moved)
    opened.store.card.weights_digest = "0" * 64
    assert opened.search(0, k=1)[0].image_id == 0
    with pytest.raises(EncoderError, match="are not those that made"):
        opened.search(photo)


def test_gallery_of_vectors_without_card_searches_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "list.txt.saved_predictions.npy", np.random.default_rng(0).random((30, 8), np.float32))
    (tmp_path / "list.txt").write_text("".join(f"{row}.jpg\n" for row in range(30)))
    vectors = open_vectors(tmp_path / "list.txt.saved_predictions.npy")
    build_index(vectors, tmp_path / "list.txt.faiss.index", IndexSettings())
    opened = Gallery.open(tmp_path / "list.txt.faiss.index")
    assert opened.search("4.jpg", k=1)[0].name == "4.jpg" and "unknown encoder" in repr(opened)
    with pytest.raises(GalleryError, match="no card that names its encoder"):
        opened.search(b"photo")


def test_photo_without_vector_is_told_why(tmp_path: Path, photos: Path, runtime: Runtime) -> None:
    shutil.copytree(photos / "car", tmp_path / "photos")
    (tmp_path / "photos" / "bad.jpg").write_text("no photo")
    names = list_photos(tmp_path / "photos")
    extract(names, tmp_path / "photos", tmp_path / "v.npy", runtime)
    build_index(open_vectors(tmp_path / "v.npy"), tmp_path / "v.faiss.index", IndexSettings())
    opened = Gallery.open(tmp_path / "v.faiss.index")
    assert len(opened) == 3 and "bad.jpg" not in [hit.name for hit in opened.search(0, k=10)]
    assert opened.searchable_rows().tolist() == [0, 1, 2]
    with pytest.raises(GalleryError, match=r"bad\.jpg has no vector: it is not a photo"):
        opened.search("bad.jpg")


def test_default_index_is_the_demos_or_the_newest_or_says_how_to_build_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMILAR_IMAGES_INDEX", raising=False)
    with pytest.raises(GalleryError, match="make demo"):
        default_index()
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "a.faiss.index").touch()
    assert default_index() == Path("demo/a.faiss.index")
    monkeypatch.setenv("SIMILAR_IMAGES_INDEX", "other.faiss.index")
    assert default_index() == Path("other.faiss.index")


def test_search_among_some_finds_the_nearest_of_these(gallery: Gallery) -> None:
    among = Among(pattern="*/01.jpg")
    found = [hit.image_id for hit in gallery.search(0, 6, among=among)]
    assert found == [hit.image_id for hit in gallery.search(0, 75) if hit.name.endswith("/01.jpg")][:6]
    assert len(gallery.search(0, 75, among=among)) == len(gallery.searchable_rows(among)) == 25
    assert gallery.search(0, among=Among(labels=())) == []


def test_search_among_what_is_no_filter_is_refused(gallery: Gallery) -> None:
    for among in (np.ones(75, np.bool_), list(range(75)), "all"):
        with pytest.raises(GalleryError, match="it must be an Among"):
            gallery.search(0, among=among)


def test_search_without_near_duplicates_looks_once_where_the_re_ranked_hold_enough(
    index_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, asked = Gallery.open(index_file), list[int]()
    search = opened.store.search
    monkeypatch.setattr(opened.store, "search", lambda vectors, k, *rest: asked.append(k) or search(vectors, k, *rest))
    nearest = opened.search(0, 5)
    apart = max(hit.distance for hit in nearest) + 1e-3
    assert len(opened.search(0, 5, suppress_near_duplicates=apart)) == 5
    assert asked == [5, opened.store.effort.rerank]


def test_search_leaves_out_what_is_not_similar_enough(gallery: Gallery) -> None:
    hits = gallery.search(0, 75)
    near = [hit for hit in hits if hit.distance <= 0.5]
    assert 1 < len(near) < 75
    assert gallery.search(0, 75, max_distance=0.5) == gallery.search(0, 75, min_similarity=0.75) == near
    assert gallery.search(0, 75, max_distance=0.5, min_similarity=-1) == near
    for bounds in ({"max_distance": -1}, {"min_similarity": 1.5}, {"min_similarity": "much"}):
        with pytest.raises(GalleryError, match="it must be a number"):
            gallery.search(0, **bounds)


def test_search_many_finds_what_each_search_finds(gallery: Gallery, photos: Path) -> None:
    page = screenshot(photos / "bricks" / "00.jpg")
    queries = [3, (photos / gallery.names[30]).read_bytes(), [4, page], page, gallery.vector(7), gallery.names[9]]
    for how in (
        {},
        {"expand": 3, "focus": 0.2},
        {"suppress_near_duplicates": 0.1},
        {"among": Among(pattern="0"), "max_distance": 1.5},
    ):
        many = gallery.search_many(queries, 8, **how)
        for query, hits in zip(queries, many, strict=True):
            alone = gallery.search(query, 8, **how)
            assert [hit.name for hit in hits] == [hit.name for hit in alone]
            np.testing.assert_allclose([h.distance for h in hits], [h.distance for h in alone], atol=1e-3)
    assert gallery.search_many([]) == []


def test_query_that_says_what_it_is_is_not_guessed_at(gallery: Gallery, photos: Path) -> None:
    assert gallery.search(Row(7), 5) == gallery.search(gallery.names[7], 5) == gallery.search(7, 5)
    assert gallery.search(Vector(gallery.vector(7)), 5) == gallery.search(7, 5)
    with pytest.raises(ImageReadError, match="no such file"):
        gallery.search(Photo(gallery.names[7]))
    assert isinstance(gallery.as_query(photos / gallery.names[7]), Row)
    assert isinstance(gallery.as_query("elsewhere.jpg"), Photo)


def test_search_suppressing_near_duplicates_leaves_out_what_is_near_a_better_hit(gallery: Gallery) -> None:
    everything = gallery.search(0, 75)
    distance = float(np.median([hit.distance for hit in everything])) / 4
    vectors = gallery.units([hit.image_id for hit in everything])
    kept: list[int] = []
    for position in range(75):
        if all(np.sum((vectors[position] - vectors[other]) ** 2) > distance for other in kept):
            kept.append(position)
    assert 5 < len(kept) < 75
    found = gallery.search(0, 5, suppress_near_duplicates=distance)
    assert [hit.image_id for hit in found] == [everything[position].image_id for position in kept[:5]]
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5]


def test_search_by_several_looks_for_their_mean(gallery: Gallery, photos: Path) -> None:
    hits = gallery.search([4, photos / gallery.names[50]], 4, focus=0)
    cosines = centred(gallery.store.vectors(np.arange(75))) @ centred(gallery.store.vectors(np.arange(75)))[[4, 50]].T
    assert found(hits) == np.argsort(-cosines.mean(axis=1))[:4].tolist()
    with pytest.raises(GalleryError, match="at least one"):
        gallery.search([])


def test_estimated_distances_are_those_of_search_in_an_exact_index(gallery: Gallery) -> None:
    estimated = gallery.estimated_distances(gallery.vector(0))
    for hit in gallery.search(0, 75, focus=0):
        assert estimated[hit.image_id] == pytest.approx(hit.distance, abs=1e-5)


def test_units_without_the_vectors_file_is_of_the_components_or_says_so(moved: Path) -> None:
    vectors = moved.with_name("photos.saved_predictions.npy")
    whole = Gallery.open(moved).units([0, 7])
    raw = moved.with_name("raw.faiss.index")
    build_index(open_vectors(vectors), raw, IndexSettings(pca=None))
    vectors.unlink()
    np.testing.assert_allclose(Gallery.open(moved).units([0, 7]), whole, atol=1e-2)
    with pytest.raises(GalleryError, match=r"vectors file .* is missing"):
        Gallery.open(raw).units([0])


def test_search_by_a_screenshot_asks_by_the_photo_in_it(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    page = screenshot(photos / "bricks" / "00.jpg")
    (tmp_path / "page.png").write_bytes(page)
    for picture in (page, tmp_path / "page.png"):
        assert gallery.search(picture, 1)[0].name == "bricks/00.jpg"
        assert gallery.search([picture, picture], 1)[0].name == "bricks/00.jpg"
    vector, box = gallery.photo_in(page)
    assert box == (60 / 440, 200 / 540, 380 / 440, 440 / 540)
    assert np.allclose(vector, gallery.vector("bricks/00.jpg"), rtol=1e-2, atol=1e-3)
    whole = Image.open(io.BytesIO(page))
    assert gallery.search(page, 75, find_photo=False) == gallery.search(whole, 75) != gallery.search(page, 75)


def test_search_by_a_framed_photo_of_the_gallery_asks_by_all_of_it(
    photos: Path, runtime: Runtime, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "bricks", folder)
    (folder / "framed.png").write_bytes(page := screenshot(photos / "bricks" / "00.jpg"))
    extract(list_photos(folder), folder, tmp_path / "v.npy", runtime)
    build_index(open_vectors(tmp_path / "v.npy"), tmp_path / "v.faiss.index", IndexSettings())
    gallery = Gallery.open(tmp_path / "v.faiss.index")
    assert gallery.search(page, 1)[0].name == "framed.png" and gallery.photo_in(page)[1] is None
