from pathlib import Path

import pytest
from http_server import serve

from similar_images.gallery import Gallery
from similar_images.widgets import SearchPanel


@pytest.fixture
def panel(gallery: Gallery) -> SearchPanel:
    return SearchPanel(gallery, k=6)


def upload(panel: SearchPanel, name: str, content: bytes) -> None:
    panel._input._handle_custom_msg({"kind": "photo", "name": name}, [memoryview(content)])


def shown(panel: SearchPanel) -> list[str]:
    return [tile.hit.name for tile in panel._tiles if tile.layout.display != "none"]


def test_panel_begins_empty_and_says_what_to_do(panel: SearchPanel) -> None:
    assert shown(panel) == [] and "75 photos" in panel._status.value
    assert "UNTRAINED" in panel._status.value and "Upload, drop or paste" in panel._status.value


def test_panel_random_shows_what_gallery_search_finds(panel: SearchPanel, gallery: Gallery) -> None:
    panel._random.click()
    assert shown(panel) == [hit.name for hit in gallery.search(panel.hits[0].image_id, 6)]
    assert "ms to encode" in panel._status.value and "ms to search" in panel._status.value
    assert f'alt="{panel.hits[0].name}"' in panel._asked.value


def test_panel_upload_finds_the_photo(panel: SearchPanel, photos: Path) -> None:
    upload(panel, "mine.jpg", (photos / "car" / "01.jpg").read_bytes())
    assert shown(panel)[0] == "car/01.jpg" and "mine.jpg" in panel._asked.value


def test_panel_tile_searches_on(panel: SearchPanel, gallery: Gallery) -> None:
    panel._random.click()
    third = panel.hits[2]
    panel._tiles[2]._button.click()
    assert shown(panel)[0] == third.name == panel.hits[0].name


def test_panel_k_changes_how_many(panel: SearchPanel) -> None:
    panel._random.click()
    first = shown(panel)
    panel._k.value = 9
    assert len(shown(panel)) == 9 and shown(panel)[:6] == first
    panel._k.value = 2
    assert shown(panel) == first[:2]


def test_panel_address_searches(panel: SearchPanel, photos: Path) -> None:
    with serve(photos) as (address, asked):
        panel._address.value = f"  {address}/sea/02.jpg "
        panel._go.click()
        assert shown(panel)[0] == "sea/02.jpg" and len(asked) == 1


def test_panel_pasted_address_searches(panel: SearchPanel, photos: Path) -> None:
    with serve(photos) as (address, _):
        panel._input._handle_custom_msg({"kind": "address", "address": f"{address}/sea/01.jpg"}, [])
    assert shown(panel)[0] == "sea/01.jpg" and panel._address.value.endswith("/sea/01.jpg")


def test_panel_photo_that_was_too_large_to_send_is_a_sentence(panel: SearchPanel) -> None:
    panel._input._handle_custom_msg({"kind": "refused", "name": "<scan>.tif", "megabytes": 60}, [])
    assert "&lt;scan&gt;.tif has 60 MB" in panel._status.value and "at most 7 MB" in panel._status.value


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "Paste the address"),
        ("sea.jpg", "only http and https"),
        ("http://127.0.0.1:9/<b>.jpg", "can&#x27;t be reached"),
    ],
)
def test_panel_bad_address_is_a_sentence_and_results_stay(panel: SearchPanel, address: str, reason: str) -> None:
    panel._random.click()
    before = shown(panel)
    panel._address.value = address
    panel._go.click()
    assert reason in panel._status.value and 'role="alert"' in panel._status.value and "<b>" not in panel._status.value
    assert shown(panel) == before


def test_panel_bad_upload_is_a_sentence_with_its_name(panel: SearchPanel) -> None:
    upload(panel, "notes.jpg", b"no photo")
    assert "notes.jpg: it is not a photo" in panel._status.value


def test_panel_missing_photo_keeps_its_tile(gallery: Gallery, tmp_path: Path) -> None:
    panel = SearchPanel(Gallery.open(gallery.path, img_dir=tmp_path), k=3)
    panel._random.click()
    assert len(shown(panel)) == 3 and "there is no such file" in panel._tiles[0]._figure.value


def test_panel_keeps_its_widgets(panel: SearchPanel) -> None:
    before = [id(tile) for tile in panel._tiles]
    for _ in range(5):
        panel._random.click()
    assert [id(tile) for tile in panel._tiles] == before


def test_panel_repr_holds_no_photo(panel: SearchPanel, photos: Path) -> None:
    upload(panel, "mine.jpg", (photos / "car" / "01.jpg").read_bytes())
    assert len(repr(panel)) < 200 and "base64" not in str(panel._repr_mimebundle_())
