import shutil
from pathlib import Path

import numpy as np
import pytest
from http_server import serve
from PIL import Image

from similar_images import download
from similar_images.cards import Failure
from similar_images.extraction import extract
from similar_images.file_list import list_photos
from similar_images.filters import matching
from similar_images.gallery import Gallery, GalleryError, default_index
from similar_images.images import ImageReadError, read_image
from similar_images.index_building import IndexSettings, build_index
from similar_images.runtimes import Runtime
from similar_images.vectors import open_vectors
from similar_images.weights import EncoderError


@pytest.fixture
def moved(index_file: Path, tmp_path: Path) -> Path:
    """A copy of the gallery's files that a test may spoil; the index's path."""
    shutil.copytree(index_file.parent, tmp_path / "copy")
    return tmp_path / "copy" / index_file.name


def test_search_by_row_name_path_and_vector_agree_without_an_encoder(gallery: Gallery, photos: Path) -> None:
    opened = Gallery.open(gallery.path)
    expected = opened.search(7, k=5)
    name = opened.names[7]
    for query in (np.int64(7), name, photos / name, str(photos / name), opened.vectors.array[7]):
        assert opened.search(query, k=5) == expected
    assert opened._encoder is None


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
    hits = gallery.search(0, k=10)
    unit = gallery.vectors.array / np.linalg.norm(gallery.vectors.array, axis=1, keepdims=True)
    exact = np.argsort(-(unit @ unit[0]), kind="stable")[:10]
    assert [hit.image_id for hit in hits] == exact.tolist()
    assert [hit.rank for hit in hits] == list(range(1, 11))
    for hit in hits:
        assert hit.name == gallery.names[hit.image_id] and hit.path == photos / hit.name and hit.path.exists()
        assert hit.similarity == pytest.approx(unit[0] @ unit[hit.image_id], abs=1e-5)
        assert hit.distance == pytest.approx(((unit[0] - unit[hit.image_id]) ** 2).sum(), abs=1e-5)


def test_search_gives_no_more_than_there_is(gallery: Gallery) -> None:
    assert len(gallery.search(0, k=1000)) == len(gallery) == 75


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (75, "there is no photo 75: the gallery has 0 to 74"),
        (-1, "there is no photo -1"),
        (np.ones(7), "the vector has 7 numbers, those of the gallery 1280"),
        (np.zeros(1280), "no direction"),
        (np.full(1280, np.nan), "no direction"),
        (np.zeros((4, 4)), "pixels must be"),
    ],
)
def test_search_for_what_cannot_be_says_so(gallery: Gallery, query: object, reason: str) -> None:
    with pytest.raises(GalleryError, match=reason):
        gallery.search(query)


def test_search_with_bad_numbers_or_photos_says_so(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="k=0"):
        gallery.search(0, k=0)
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
    hits = opened.search(3, k=20)  # encoded from the photo now
    assert 3 in [hit.image_id for hit in hits] and hits[0].distance > 1e-3


def test_gallery_of_files_that_do_not_belong_together_is_refused(moved: Path, photos: Path, runtime: Runtime) -> None:
    vectors = moved.with_name("photos.saved_predictions.npy")
    extract(list_photos(photos)[::-1], photos, vectors, runtime, overwrite=True)
    with pytest.raises(GalleryError, match=r"built from other vectors.*build_search_db\.py --overwrite"):
        Gallery.open(moved)
    vectors.with_name(vectors.name + ".txt").unlink()
    vectors.unlink()
    with pytest.raises(GalleryError, match=r"file list .* is missing"):
        Gallery.open(moved)


def test_gallery_whose_encoder_changed_refuses_new_photos_only(moved: Path, photo: Path) -> None:
    opened = Gallery.open(moved)
    opened.card.weights_digest = "0" * 64
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
    among = matching(gallery.names, pattern="*/01.jpg")
    found = [hit.image_id for hit in gallery.search(0, 6, among=among)]
    assert found == [hit.image_id for hit in gallery.search(0, 75) if hit.name.endswith("/01.jpg")][:6]
    assert len(gallery.search(0, 75, among=among)) == among.sum() == 25
    assert gallery.search(0, among=np.zeros(75, np.bool_)) == []


def test_search_among_never_finds_photos_without_a_vector(moved: Path) -> None:
    opened = Gallery.open(moved)
    opened.card.failures = [Failure(row=3, name=opened.names[3], reason="cut off")]
    assert 3 not in [hit.image_id for hit in opened.search(0, 75, among=np.ones(75, np.bool_))]


def test_search_among_what_is_no_mask_of_the_rows_is_refused(gallery: Gallery) -> None:
    for among in (np.ones(7, np.bool_), np.arange(75)):
        with pytest.raises(GalleryError, match=r"among must be \(75,\) bool"):
            gallery.search(0, among=among)


def test_search_apart_leaves_out_what_is_near_a_better_hit(gallery: Gallery) -> None:
    everything = gallery.search(0, 75)
    apart = float(np.median([hit.distance for hit in everything])) / 4
    vectors = gallery.stored([hit.image_id for hit in everything])
    kept: list[int] = []
    for position in range(75):
        if all(np.sum((vectors[position] - vectors[other]) ** 2) > apart for other in kept):
            kept.append(position)
    assert 5 < len(kept) < 75
    found = gallery.search(0, 5, apart=apart)
    assert [hit.image_id for hit in found] == [everything[position].image_id for position in kept[:5]]
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5]


def test_search_by_several_looks_for_their_mean(gallery: Gallery, photos: Path) -> None:
    mean = gallery.stored([4, 50]).mean(axis=0)
    assert gallery.search([4, photos / gallery.names[50]], 5) == gallery.search(mean, 5)
    with pytest.raises(GalleryError, match="at least one"):
        gallery.search([])


def test_estimated_distances_are_those_of_search_in_an_exact_index(gallery: Gallery) -> None:
    estimated = gallery.estimated_distances(gallery.vector(0))
    for hit in gallery.search(0, 75):
        assert estimated[hit.image_id] == pytest.approx(hit.distance, abs=1e-5)


def test_stored_without_the_vectors_file_says_so(moved: Path) -> None:
    (moved.parent / "photos.saved_predictions.npy").unlink()
    with pytest.raises(GalleryError, match=r"vectors file .* is missing"):
        Gallery.open(moved).stored([0])
