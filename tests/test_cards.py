import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images import cards
from similar_images.cards import CardError, VectorsCard, is_own, read_card, write_card
from similar_images.files import card_path, names_path
from similar_images.photos.file_list import write_file_list
from similar_images.search.gallery import Gallery, GalleryError
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

ROWS = np.random.default_rng(0).standard_normal((30, 8), np.float32)


@pytest.fixture
def somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes this another user, who has another key."""
    return lambda: monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another home"))


def built(folder: Path, img_dir: str = "photos") -> Path:
    folder.mkdir(parents=True)
    vectors = write_vectors(folder / "v.saved_predictions.npy", ROWS, img_dir)
    build_index(open_vectors(vectors), folder / "v.faiss.index", IndexSettings())
    return folder / "v.faiss.index"


def test_card_that_was_written_is_read_and_a_missing_one_is_none(tmp_path: Path) -> None:
    card = VectorsCard(n=3, d=4, img_dir=os.fsdecode(b"caf\xe9"), size=(3, 4), made_with=["OpenVINO f32"])
    write_card(tmp_path / "v.npy", card)
    assert read_card(tmp_path / "v.npy", VectorsCard) == card
    assert read_card(tmp_path / "other.npy", VectorsCard) is None


@pytest.mark.parametrize(
    ("key", "value"), [("n", 0), ("n", "3"), ("n", True), ("d", 2.5), ("digest", "0"), ("size", [3]), ("more", 1)]
)
def test_card_with_a_value_that_cannot_be_is_refused(tmp_path: Path, key: str, value: object) -> None:
    write_card(tmp_path / "v.npy", VectorsCard(n=3, d=4))
    content = json.loads(card_path(tmp_path / "v.npy").read_text())
    del content["checksum"]  # as of an older card
    card_path(tmp_path / "v.npy").write_text(json.dumps(content | {key: value}))
    with pytest.raises(CardError, match=key):
        read_card(tmp_path / "v.npy", VectorsCard)


def test_card_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    write_card(tmp_path / "v.npy", VectorsCard(n=3, d=4))
    text = card_path(tmp_path / "v.npy").read_text()
    card_path(tmp_path / "v.npy").write_text(text.replace('"n": 3', '"n": 4'))
    with pytest.raises(CardError, match="damaged, or changed by hand"):
        read_card(tmp_path / "v.npy", VectorsCard)


def test_card_is_own_until_it_is_changed_or_somebody_elses(tmp_path: Path, somebody_else) -> None:
    write_card(tmp_path / "v.npy", VectorsCard(n=3, d=4))
    assert is_own(tmp_path / "v.npy") and not is_own(tmp_path / "missing.npy")
    somebody_else()
    assert not is_own(tmp_path / "v.npy")
    write_card(tmp_path / "v.npy", VectorsCard(n=3, d=5))  # changed by whoever it isn't of
    assert not is_own(tmp_path / "v.npy") and read_card(tmp_path / "v.npy", VectorsCard).d == 5


def test_key_is_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    write_card(tmp_path / "v.npy", VectorsCard(n=3, d=4))
    assert (tmp_path / "similar_images" / "key").stat().st_mode & 0o777 == 0o600
    cards._key.cache_clear()  # as another process
    assert is_own(tmp_path / "v.npy")
    assert [file.name for file in (tmp_path / "similar_images").iterdir()] == ["key"]


def test_card_is_written_where_no_key_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    write_card(tmp_path / "v.npy", VectorsCard(n=3, d=4))
    assert read_card(tmp_path / "v.npy", VectorsCard).n == 3 and not is_own(tmp_path / "v.npy")


@pytest.mark.parametrize("img_dir", ["../photos", "/etc", "photos/../../x"])
def test_gallery_of_somebody_else_leads_only_to_its_own_folder(tmp_path: Path, somebody_else, img_dir: str) -> None:
    index = built(tmp_path / "gallery", img_dir)
    assert Gallery.open(index).search(3, k=1)[0].image_id == 3  # whoever wrote it said so
    somebody_else()
    with pytest.raises(GalleryError, match=r"not written by you.*say yourself where the photos are"):
        Gallery.open(index)
    assert Gallery.open(index, img_dir=tmp_path).img_dir == tmp_path


def test_gallery_of_somebody_else_that_stays_in_its_folder_opens_wherever_it_is(tmp_path: Path, somebody_else) -> None:
    built(tmp_path / "gallery")
    shutil.copytree(tmp_path / "gallery", tmp_path / "copy")
    somebody_else()
    assert Gallery.open(tmp_path / "copy" / "v.faiss.index").img_dir == tmp_path / "copy" / "photos"


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg", "a/../../../secret.jpg"])
def test_gallery_of_somebody_else_names_no_photo_elsewhere(tmp_path: Path, somebody_else, name: str) -> None:
    np.save(tmp_path / "list.saved_predictions.npy", ROWS)
    write_file_list(names_path(tmp_path / "list.saved_predictions.npy"), [name, *map(str, range(29))])
    build_index(open_vectors(tmp_path / "list.saved_predictions.npy"), tmp_path / "v.faiss.index", IndexSettings())
    assert Gallery.open(tmp_path / "v.faiss.index").names[0] == name
    somebody_else()
    with pytest.raises(GalleryError, match="secret"):
        Gallery.open(tmp_path / "v.faiss.index")


def test_gallery_with_a_card_of_before_checksums_opens(tmp_path: Path) -> None:
    index = built(tmp_path / "gallery")
    for file in (index, index.with_name("v.saved_predictions.npy")):
        content = json.loads(card_path(file).read_text())
        card_path(file).write_text(
            json.dumps({key: content[key] for key in content if key not in ("checksum", "signature")})
        )
    assert Gallery.open(index).search(3, k=1)[0].image_id == 3
