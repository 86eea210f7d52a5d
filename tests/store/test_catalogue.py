import os
import sqlite3
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import ODD_NAMES, write_vectors

from similar_images.cards import VectorsCard
from similar_images.files import card_path, catalogue_path, locked, names_path
from similar_images.photos.file_list import write_file_list
from similar_images.store.base import Among
from similar_images.store.catalogue import Catalogue, CatalogueError
from similar_images.store.facts import Facts
from similar_images.store.vectors import VectorsError, open_vectors

PHOTOS = [
    Facts(
        0, "sea/0.jpg", "first", 10, -1, "a" * 64, 640, 480, "2024-06-30T18:05:00", "Canon EOS 5D", 48.5, -2.25, "sea"
    ),
    Facts(1, "sea/1.jpg", size=1 << 40, taken="2024-08-31T23:59:59", label="sea"),
    Facts(2, "car/2.jpg", label="car", state="unreadable", reason="it is empty"),
    Facts(3, "sea/0.jpg", label="sea", state="removed", reason="removed"),
    Facts(4, "car/IMG_4.jpg", "fifth", taken="2025-01-01T00:00:00", label="car"),
]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    made = Catalogue.create(tmp_path / "c.sqlite")
    made.write(PHOTOS)
    made.finish()
    return Catalogue.resume(tmp_path / "c.sqlite")


@pytest.fixture
def vectors_path(tmp_path: Path) -> Path:
    """Vectors of five photos, the third of which could not be read, from before there were catalogues."""
    rows = np.eye(5, dtype=np.float32)
    rows[2] = 0
    path = write_vectors(tmp_path / "v.saved_predictions.npy", rows)
    catalogue_path(path).unlink()
    return path


def card_of(vectors_path: Path) -> VectorsCard:
    return msgspec.structs.replace(open_vectors(vectors_path).card, catalogue_digest=None)


def rows(catalogue: Catalogue, among: Among) -> list[int]:
    return np.flatnonzero(catalogue.matching(among)).tolist()


def test_catalogue_gives_back_what_was_written_in_the_order_asked_for(catalogue: Catalogue) -> None:
    assert list(catalogue.all()) == PHOTOS and len(catalogue) == 5
    assert catalogue.facts([4, 0, 4]) == [PHOTOS[4], PHOTOS[0], PHOTOS[4]]
    assert catalogue.facts([]) == []
    with pytest.raises(CatalogueError, match="there is no photo 5: the gallery has 0 to 4"):
        catalogue.facts([0, 5])


def test_catalogue_finds_rows_by_name_and_id_but_no_removed_ones(catalogue: Catalogue) -> None:
    assert [catalogue.row_of(name) for name in ("sea/0.jpg", "car/2.jpg", "missing")] == [0, 2, None]
    assert [catalogue.row_of_id(id) for id in ("first", "fifth", "missing")] == [0, 4, None]
    catalogue.write([msgspec.structs.replace(PHOTOS[0], state="removed")])
    assert catalogue.row_of("sea/0.jpg") is None and catalogue.row_of_id("first") is None


def test_catalogue_knows_what_cannot_be_found(catalogue: Catalogue) -> None:
    assert catalogue.absent.tolist() == [2, 3]
    assert catalogue.labels() == {"car": 1, "sea": 2}


@pytest.mark.parametrize(
    ("among", "expected"),
    [
        (Among(), [0, 1, 4]),
        (Among(labels=("sea",)), [0, 1]),
        (Among(labels=("sea", "car")), [0, 1, 4]),
        (Among(labels=()), []),
        (Among(folder="car"), [4]),
        (Among(pattern="img"), [4]),
        (Among(pattern="sea/?.JPG"), [0, 1]),
        (Among(pattern=" "), [0, 1, 4]),
        (Among(taken=("2024-06", "2024-08")), [0, 1]),
        (Among(taken=("2024-07-01", "2025-01-01")), [1, 4]),
        (Among(rows=(4, 2, 0)), [0, 4]),
        (Among(without=(0, 2)), [1, 4]),
        (Among(folder="sea", pattern="1", taken=("2024", "2024"), rows=(0, 1), without=(0,)), [1]),
    ],
)
def test_catalogue_matches_photos_that_fulfil_all(catalogue: Catalogue, among: Among, expected: list[int]) -> None:
    assert rows(catalogue, among) == expected


def test_catalogue_keeps_names_that_are_no_utf_8(tmp_path: Path) -> None:
    photos = [
        Facts(row, name, id=name, label=name.rpartition("/")[0], state="unreadable", reason=name)
        for row, name in enumerate(ODD_NAMES)
    ]
    photos += [msgspec.structs.replace(photo, row=photo.row + len(photos), state="present") for photo in photos]
    made = Catalogue.create(tmp_path / "c")
    made.write(photos)
    assert list(made.all()) == photos and made.facts([1]) == [photos[1]]
    assert [made.row_of(name) for name in ODD_NAMES] == list(range(len(ODD_NAMES)))
    assert made.row_of_id(ODD_NAMES[0]) == 0
    assert rows(made, Among(folder=photos[0].label)) == rows(made, Among(labels=(photos[0].label,))) == [6, 7]


def test_catalogue_takes_what_another_is_just_read_of(catalogue: Catalogue, tmp_path: Path) -> None:
    other = Catalogue.create(tmp_path / "other")
    other.write(catalogue.all())
    assert list(other.all()) == PHOTOS


def test_catalogue_writes_all_of_a_transaction_or_nothing(tmp_path: Path) -> None:
    made = Catalogue.create(tmp_path / "c")
    made.write(PHOTOS[:1], done="1")
    wrong = Facts(2, "x", label=None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        made.write([PHOTOS[1], wrong], done="2")
    assert list(made.all()) == PHOTOS[:1] and made.note("done") == "1" and made.note("missing") is None


def test_catalogue_is_one_file_when_finished_and_can_be_read_where_nothing_can_be_written(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["c.sqlite"]
    tmp_path.chmod(0o500)
    try:
        with sqlite3.connect(f"file:{catalogue.path}?mode=ro&immutable=1", uri=True) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT COUNT(*) FROM photos").fetchall() == [(5,)]
        connection.close()
    finally:
        tmp_path.chmod(0o700)


def test_catalogue_answers_any_number_of_threads(catalogue: Catalogue) -> None:
    wrong: list[object] = []

    def ask(row: int) -> None:
        for _ in range(50):
            found = (catalogue.facts([row])[0], rows(catalogue, Among(pattern=f"{row}.jpg")))
            expected = [row] if PHOTOS[row].state == "present" else []
            if found != (PHOTOS[row], expected):
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_catalogue_answers_after_a_fork_in_parent_and_child(catalogue: Catalogue) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if catalogue.facts([4]) == [PHOTOS[4]] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert catalogue.facts([4]) == [PHOTOS[4]]


def test_catalogue_of_older_vectors_is_made_from_list_and_card_once(vectors_path: Path) -> None:
    expected = [Facts(row, f"{row}.jpg") for row in range(5)]
    expected[2] = Facts(2, "2.jpg", state="unreadable", reason="cut off")
    assert list(Catalogue.of_vectors(vectors_path, card_of(vectors_path)).all()) == expected
    made = catalogue_path(vectors_path).stat()
    again = Catalogue.of_vectors(vectors_path, card_of(vectors_path))
    assert list(again.all()) == expected and os.path.samestat(catalogue_path(vectors_path).stat(), made)


def test_catalogue_of_vectors_without_card_is_made_from_their_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt.saved_predictions.npy"
    np.save(path, np.eye(3, dtype=np.float32))
    write_file_list(tmp_path / "list.txt", ODD_NAMES[:3])
    found = Catalogue.of_vectors(path, open_vectors(path).card)
    assert [photo.name for photo in found.all()] == ODD_NAMES[:3]
    assert catalogue_path(path) == tmp_path / "list.txt.catalogue.sqlite" and catalogue_path(path).exists()


@pytest.mark.parametrize("damage", ["cut off", "garbage", "empty", "of other vectors", "a folder"])
def test_catalogue_that_is_damaged_or_of_others_is_made_again(vectors_path: Path, damage: str) -> None:
    path, card = catalogue_path(vectors_path), card_of(vectors_path)
    expected = list(Catalogue.of_vectors(vectors_path, card).all())
    if damage == "cut off":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "garbage":
        path.write_bytes(os.urandom(5000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        other = write_vectors(path.with_name("other.saved_predictions.npy"), np.ones((5, 3), np.float32))
        catalogue_path(other).replace(path)
    assert list(Catalogue.of_vectors(vectors_path, card).all()) == expected


def test_catalogue_that_cannot_be_written_is_made_in_memory(vectors_path: Path) -> None:
    with locked(vectors_path):
        assert len(Catalogue.of_vectors(vectors_path, card_of(vectors_path))) == 5
    assert not catalogue_path(vectors_path).exists()


def test_catalogue_that_the_card_of_its_vectors_knows_is_never_replaced_on_opening(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.saved_predictions.npy", np.eye(3, dtype=np.float32))
    with open(catalogue_path(path), "r+b") as file:
        file.write(b"damaged")
    before = catalogue_path(path).read_bytes()
    assert [photo.name for photo in Catalogue.of_vectors(path, open_vectors(path).card).all()] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
    ]
    assert catalogue_path(path).read_bytes() == before


def test_catalogue_without_a_list_to_make_it_from_is_refused(vectors_path: Path) -> None:
    names_path(vectors_path).unlink()
    with pytest.raises(VectorsError, match=r"the file list .* is missing"):
        Catalogue.of_vectors(vectors_path, card_of(vectors_path))
    assert not card_path(catalogue_path(vectors_path)).exists()


def test_catalogue_opened_before_it_was_replaced_stays_the_same(vectors_path: Path) -> None:
    opened = Catalogue.of_vectors(vectors_path, card_of(vectors_path))
    before = list(opened.all())
    write_vectors(vectors_path, np.ones((2, 3), np.float32))
    assert list(opened.all()) == before and len(opened) == 5
