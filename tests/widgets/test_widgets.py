"""The panel by what it tells the page, and what it does on what the page tells it."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import screenshot
from http_server import serve
from ipywidgets.widgets.widget import _instances
from panel_page import expected, names_of
from PIL import Image

from similar_images.photos.images import cropped
from similar_images.search.explanation import explain, spotlights
from similar_images.search.gallery import Gallery
from similar_images.search.gallery_map import map_path
from similar_images.store.base import Among
from similar_images.widgets import SearchPanel
from similar_images.widgets.message_view import MessageView
from similar_images.widgets.photo_input import PhotoInput

Sent = list[tuple[str, dict[str, Any], list[bytes]]]


@pytest.fixture
def panel(gallery: Gallery) -> SearchPanel:
    return SearchPanel(gallery, k=6, private_addresses=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What widgets send to the page: kind, content, buffers."""
    messages: Sent = []

    def send(self: MessageView, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        messages.append((content["kind"], content, buffers or []))

    monkeypatch.setattr(MessageView, "send", send)
    return messages


def tell(widget: MessageView, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> None:
    """Do as the page does when it sends a message."""
    widget._handle_custom_msg({"kind": kind, **content}, [memoryview(buffer) for buffer in buffers])


def upload(panel: SearchPanel, *photos: tuple[str, bytes], add: bool = False) -> None:
    for at, (name, data) in enumerate(photos):
        tell(panel._input, "photo", (data,), upload="1", name=name, add=add, last=at == len(photos) - 1)


def shown(panel: SearchPanel) -> list[str]:
    return [hit["name"] for hit in panel._grid._shown[0]["hits"]]


def asked(panel: SearchPanel) -> dict[str, Any]:
    content: dict[str, Any] = panel._question._shown[0]
    return content


def examples(panel: SearchPanel) -> list[str]:
    return [example["name"] for example in asked(panel)["examples"]]


def status(panel: SearchPanel) -> str:
    return str(panel._status.value)


def vector_of(gallery: Gallery, unit: np.ndarray) -> np.ndarray:
    return gallery.measure.vectors_of(unit[None])[0]


def ask_row(panel: SearchPanel, row: int) -> None:
    tell(panel._grid, "search", row=row)


def test_panel_begins_empty_and_says_what_to_do(panel: SearchPanel) -> None:
    assert panel.hits == [] and "75 photos" in status(panel)
    assert "UNTRAINED" in status(panel) and "Upload, drop or paste" in status(panel)
    assert panel._back.disabled and panel._forward.disabled


def test_panel_random_shows_what_gallery_search_finds(panel: SearchPanel, gallery: Gallery) -> None:
    panel._random.click()
    row = panel.hits[0].image_id
    assert shown(panel) == expected(gallery, row, 6) and examples(panel) == [gallery.names[row]]
    assert "ms to search" in status(panel)


def test_panel_upload_finds_the_photo(panel: SearchPanel, photos: Path) -> None:
    upload(panel, ("mine.jpg", (photos / "car" / "01.jpg").read_bytes()))
    assert shown(panel)[0] == "car/01.jpg" and examples(panel) == ["mine.jpg"] and "ms to encode" in status(panel)
    picture = Image.open(io.BytesIO(panel._question._shown[1][0]))
    assert picture.size == Image.open(photos / "car" / "01.jpg").size


def test_panel_several_photos_ask_for_their_mean(panel: SearchPanel, gallery: Gallery, photos: Path) -> None:
    paths = [photos / "car" / "01.jpg", photos / "sea" / "02.jpg"]
    upload(panel, *[(path.name, path.read_bytes()) for path in paths])
    assert shown(panel) == expected(gallery, paths, 6) and examples(panel) == ["01.jpg", "02.jpg"]


def test_panel_photo_is_added_to_what_is_asked_for_and_removed(
    panel: SearchPanel, gallery: Gallery, photos: Path
) -> None:
    ask_row(panel, 7)
    upload(panel, ("mine.jpg", (photos / "car" / "01.jpg").read_bytes()), add=True)
    assert shown(panel) == expected(gallery, [7, photos / "car" / "01.jpg"], 6)
    tell(panel._question, "remove", at=0)
    assert examples(panel) == ["mine.jpg"] and shown(panel)[0] == "car/01.jpg"


def test_panel_part_of_a_photo_is_searched_for(panel: SearchPanel, gallery: Gallery) -> None:
    ask_row(panel, 30)
    tell(panel._question, "crop", at=0, box=[0.0, 0.0, 0.5, 0.75])
    part = cropped(gallery.photo_path(30), (0.0, 0.0, 0.5, 0.75))
    assert shown(panel) == expected(gallery, part, 6) and asked(panel)["examples"][0]["box"] == (0, 0, 0.5, 0.75)
    tell(panel._question, "crop", at=0, box=None)
    assert shown(panel) == expected(gallery, 30, 6) and asked(panel)["examples"][0]["box"] is None


def test_panel_asks_by_the_photo_in_a_screenshot_until_that_is_taken_back(
    panel: SearchPanel, gallery: Gallery, photos: Path
) -> None:
    page = screenshot(photos / "bricks" / "00.jpg")
    upload(panel, ("page.png", page))
    assert shown(panel)[0] == "bricks/00.jpg" and "“Whole photo” undoes that" in status(panel)
    assert asked(panel)["examples"][0]["box"] == (60 / 440, 200 / 540, 380 / 440, 440 / 540)
    tell(panel._question, "crop", at=0, box=None)
    assert asked(panel)["examples"][0]["box"] is None and "Whole photo" not in status(panel)
    assert shown(panel) == expected(gallery, page, 6, find_photo=False)
    assert shown(panel) != expected(gallery, page, 6)


def test_panel_marks_refine_and_are_removed(panel: SearchPanel, gallery: Gallery) -> None:
    ask_row(panel, 0)
    tell(panel._grid, "mark", row=40, relevant=True)
    unit = gallery.units([0, 40])
    assert shown(panel) == expected(gallery, vector_of(gallery, unit[0] + unit[1]), 6)
    tell(panel._grid, "mark", row=50, relevant=False)
    assert [(mark["row"], mark["relevant"]) for mark in asked(panel)["marks"]] == [(40, True), (50, False)]
    among = Among(without=(50,))
    moved = unit[0] + unit[1] - 0.3 * gallery.units([50])[0]
    assert shown(panel) == expected(gallery, vector_of(gallery, moved), 6, among=among)
    assert panel._grid._shown[0]["relevant"] == [40]
    tell(panel._question, "mark", row=40, relevant=True)
    tell(panel._question, "mark", row=50, relevant=False)
    assert asked(panel)["marks"] == [] and shown(panel) == expected(gallery, 0, 6)


def test_panel_goes_back_and_forward(panel: SearchPanel, gallery: Gallery) -> None:
    for row in (3, 30, 60):
        ask_row(panel, row)
    for button, row in ((panel._back, 30), (panel._back, 3), (panel._forward, 30)):
        button.click()
        assert shown(panel) == expected(gallery, row, 6) and examples(panel) == [gallery.names[row]]
    assert not panel._back.disabled and not panel._forward.disabled
    ask_row(panel, 5)
    assert panel._forward.disabled


def test_panel_settings_change_what_is_found(panel: SearchPanel, gallery: Gallery) -> None:
    ask_row(panel, 0)
    settings = panel._settings
    settings.k = 9
    assert shown(panel) == expected(gallery, 0, 9)
    settings.folder = "car"
    assert shown(panel) == expected(gallery, 0, 9, among=Among(folder="car"))
    settings.folder, settings.pattern = None, "*/01.jpg"
    assert shown(panel) == expected(gallery, 0, 9, among=Among(pattern="*/01.jpg"))
    settings.pattern, settings.suppress_near_duplicates = "", 0.3
    assert shown(panel) == expected(gallery, 0, 9, suppress_near_duplicates=0.3) != expected(gallery, 0, 9)
    least = round(gallery.search(0, 9)[4].similarity, 3)
    settings.suppress_near_duplicates, settings.min_similarity = 0, least
    assert shown(panel) == expected(gallery, 0, 9, min_similarity=least) != expected(gallery, 0, 9)
    assert settings.keywords()["min_similarity"] == least
    settings.pattern = "no such name"
    assert shown(panel) == [] and "nothing is similar enough" in status(panel)
    settings.min_similarity = 0
    assert shown(panel) == [] and "no photo is left to find" in status(panel)
    panel._random.click()
    assert "No photo of the gallery" in status(panel)


def test_panel_random_stays_in_the_folder(panel: SearchPanel) -> None:
    panel._settings.folder = "sea"
    for _ in range(5):
        panel._random.click()
        assert examples(panel)[0].startswith("sea/") and all(name.startswith("sea/") for name in shown(panel))


def test_panel_shows_more_up_to_all(panel: SearchPanel) -> None:
    ask_row(panel, 0)
    counts = []
    while panel._grid._shown[0]["more"]:
        tell(panel._grid, "more")
        counts.append(len(shown(panel)))
    assert counts == [30, 54, 75]


def test_panel_without_a_search_has_nothing_to_compare(panel: SearchPanel) -> None:
    tell(panel._settings, "compare")
    assert panel._settings.agreement == "Search for something first."


def test_panel_says_what_a_search_costs_and_how_exact_it_is(panel: SearchPanel) -> None:
    ask_row(panel, 0)
    assert "compared all of 75 photos" in panel._settings.cost
    tell(panel._settings, "compare")
    assert panel._settings.agreement.startswith("6 of the 6 nearest were found; comparing all photos exactly took")
    ask_row(panel, 1)
    assert panel._settings.agreement == ""
    panel._settings.pattern = "no such name"
    tell(panel._settings, "compare")
    assert panel._settings.agreement == "No photo is left to compare: choose another folder or name."


def test_panel_dial_orders_the_result_anew_without_encoding(
    panel: SearchPanel, gallery: Gallery, photos: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(panel, ("mine.jpg", (photos / "car" / "01.jpg").read_bytes()))
    tell(panel._grid, "mark", row=40, relevant=True)
    vector = panel._asked().vector(gallery)
    assert shown(panel) == expected(gallery, vector, 6)
    with monkeypatch.context() as patch:
        patch.setattr(type(gallery.runtime), "_run", lambda *_: pytest.fail("something is encoded"))
        for focus in (-0.3, 0.0, 0.3):
            panel._settings.focus = focus
            assert shown(panel) == expected(gallery, vector, 6, focus=focus)
    orders = [expected(gallery, vector, 6, focus=focus) for focus in (-0.3, 0.0, 0.3)]
    assert orders[0] != orders[1] != orders[2]
    tell(panel._grid, "explain", row=9)
    pair = (photos / "car" / "01.jpg").read_bytes(), gallery.photo_path(9)
    heats, other = (
        spotlights(pair, explain(gallery.runtime, gallery.measure, *pair, focus), 900) for focus in (0.3, 0)
    )
    assert sent[-1][2] == heats != other


def test_panel_asks_by_the_first_hits_until_told_not_to_and_says_so(panel: SearchPanel, gallery: Gallery) -> None:
    ask_row(panel, 3)
    panel._settings.k = 20
    assert shown(panel) == expected(gallery, 3, 20) and panel._grid._shown[0]["to"] == "your photo and its 3 nearest"
    panel._settings.expand = 0
    assert shown(panel) == expected(gallery, 3, 20, expand=0) != expected(gallery, 3, 20)
    assert panel._grid._shown[0]["to"] == "your photo"
    tell(panel._grid, "mark", row=40, relevant=True)
    assert panel._grid._shown[0]["to"] == "your query"


def test_panel_of_a_gallery_by_raw_cosine_has_no_dial(raw_index: Path) -> None:
    panel = SearchPanel(Gallery.open(raw_index), k=6)
    assert not panel._settings.can_focus and panel._settings.keywords() == {"k": 6, "expand": 3}
    ask_row(panel, 0)
    assert shown(panel) == names_of(panel.gallery.search(0, 6, expand=3))
    tell(panel._settings, "compare")
    assert panel._settings.agreement.startswith("6 of the 6 nearest were found")


def test_panel_sends_the_pictures_that_are_asked_for(panel: SearchPanel, gallery: Gallery, sent: Sent) -> None:
    ask_row(panel, 0)
    tell(panel._grid, "pictures", rows=[0, 7])
    kind, content, buffers = sent[-1]
    assert kind == "pictures" and content["rows"] == [0, 7] and content["reasons"] == ["", ""]
    for row, jpeg in zip([0, 7], buffers, strict=True):
        small, photo = Image.open(io.BytesIO(jpeg)), Image.open(gallery.photo_path(row))
        photo.thumbnail(small.size)
        assert np.abs(np.asarray(small, int) - np.asarray(photo.convert("RGB"), int)).mean() < 4


def test_panel_missing_photo_is_told_in_its_place(gallery: Gallery, tmp_path: Path, sent: Sent) -> None:
    panel = SearchPanel(Gallery.open(gallery.path, img_dir=tmp_path), k=3)
    ask_row(panel, 0)
    tell(panel._grid, "pictures", rows=[0])
    assert sent[-1][1]["reasons"] == ["there is no such file"] and asked(panel)["examples"][0]["reason"]
    tell(panel._grid, "look", row=0)
    assert sent[-1][1]["reason"] == "there is no such file"
    (tmp_path / gallery.names[0]).parent.mkdir()
    (tmp_path / gallery.names[0]).write_bytes(b"no photo")
    tell(panel._question, "crop", at=0, box=[0, 0, 1, 0.5])
    assert "it is not a photo" in status(panel) and asked(panel)["examples"][0]["box"] is None
    (tmp_path / gallery.names[0]).unlink()
    tell(panel._grid, "explain", row=0)
    assert sent[-1][0] == "failed" and "there is no such file" in sent[-1][1]["sentence"]


def test_panel_closer_look_has_both_photos_and_the_facts(panel: SearchPanel, gallery: Gallery, sent: Sent) -> None:
    ask_row(panel, 0)
    tell(panel._grid, "look", row=9)
    kind, content, (query, hit) = sent[-1]
    assert kind == "look" and content["query"] == gallery.names[0]
    path = gallery.photo_path(9)
    with Image.open(path) as photo:
        assert content["size"] == f"{photo.width} x {photo.height} pixels, {path.stat().st_size:,} bytes"
        assert Image.open(io.BytesIO(hit)).size == photo.size
    tell(panel._grid, "explain", row=9)
    kind, content, heats = sent[-1]
    assert kind == "explained" and content["row"] == 9
    assert [Image.open(io.BytesIO(heat)).size for heat in heats] == [
        Image.open(io.BytesIO(plain)).size for plain in (query, hit)
    ]


def test_panel_exports_what_is_shown(panel: SearchPanel, gallery: Gallery, sent: Sent) -> None:
    ask_row(panel, 4)
    for kind in ("csv", "json", "png"):
        tell(panel._export, "export", format=kind)
    (csv, table, png) = [(content["name"], buffers[0]) for _, content, buffers in sent[-3:]]
    assert csv[0] == "similar.csv" and csv[1].decode().splitlines()[1].startswith(f"1,4,{gallery.names[4]},")
    assert table[0] == "similar.json" and [row["name"] for row in json.loads(table[1])] == shown(panel)
    assert png[0] == "similar.png" and Image.open(io.BytesIO(png[1])).format == "PNG"
    tell(panel._export, "export", format="py")
    assert sent[-1][0] == "code" and "hits = gallery.search(query, k=6, focus=0.1, expand=3)" in sent[-1][1]["text"]


def test_panel_map_is_made_when_it_is_opened_and_marks_the_hits(panel: SearchPanel) -> None:
    ask_row(panel, 4)
    assert panel._map.scatter is None
    panel._open_map.value = True
    points = panel._map._points()
    assert set(np.flatnonzero(points["hit"])) == {hit.image_id for hit in panel.hits}
    assert points["nearness"].argmax() == 4 and len(panel._map.scatter.widget.points) == 75
    panel._map.scatter.widget.selection = np.array([9], np.uint32)  # a click on a point
    assert examples(panel) == [panel.gallery.names[9]]
    panel._map.colour.value = "distance to the query"
    assert panel._map.scatter.widget.color_scale == "linear"


def test_panel_shows_that_long_work_goes_on(raw_index: Path, photos: Path) -> None:
    panel = SearchPanel(Gallery.open(raw_index), k=3)
    map_path(panel.gallery, "pca").unlink(missing_ok=True)
    said: list[Any] = []
    panel._status.observe(lambda change: said.append(change["new"]), "value")
    progress = panel._map._progress
    progress.observe(lambda change: said.append((progress.layout.display, change["new"])), "value")
    upload(panel, ("mine.jpg", (photos / "car" / "01.jpg").read_bytes()))
    assert any("loading the encoder" in value and "<progress" in value for value in said)
    assert "<progress" not in said[-1]
    panel._open_map.value = True
    assert said[-1] == ("", 1) and progress.layout.display == "none"


def test_panel_map_by_keyboard_steps_from_photo_to_photo(panel: SearchPanel) -> None:
    ask_row(panel, 4)
    panel._open_map.value = True
    steps = panel._map.children[2].children[1].children[1].children
    for button, axis, sign in ((steps[1], 0, 1), (steps[0], 0, -1), (steps[2], 1, 1), (steps[3], 1, -1)):
        before = panel._map.current if panel._map.current is not None else 4
        button.click()
        after = panel._map.current
        if after != before:
            assert sign * (panel._map._positions[after] - panel._map._positions[before])[axis] > 0
    assert panel._map._photo._shown[0]["name"] == panel.gallery.names[panel._map.current]


def test_panel_address_searches(panel: SearchPanel, photos: Path) -> None:
    with serve(photos) as (address, requests):
        tell(panel._input, "address", address=f"{address}/sea/02.jpg", add=False)
        assert shown(panel)[0] == "sea/02.jpg" and len(requests) == 1


@pytest.mark.parametrize("served_by", ["nobody", "voila/0.5.13"])
def test_panel_fetches_from_this_machine_only_where_that_is_allowed(
    gallery: Gallery, photos: Path, served_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", served_by)
    panel = SearchPanel(gallery, k=6, private_addresses=served_by.startswith("voila"))
    with serve(photos) as (address, requests):
        tell(panel._input, "address", address=f"{address}/sea/02.jpg", add=False)
        assert "it does not lead to the public internet" in status(panel) and requests == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "Paste the address"),
        ("ftp://127.0.0.1/sea.jpg", "only http and https"),
        ("http://127.0.0.1:9/<b>.jpg", "can&#x27;t be reached"),
    ],
)
def test_panel_bad_address_is_a_sentence_and_results_stay(panel: SearchPanel, address: str, reason: str) -> None:
    panel._random.click()
    before = shown(panel)
    tell(panel._input, "address", address=address, add=False)
    assert reason in status(panel) and 'role="alert"' in status(panel) and "<b>" not in status(panel)
    assert shown(panel) == before


def test_panel_bad_upload_is_a_sentence_and_the_others_are_searched_for(panel: SearchPanel, photos: Path) -> None:
    upload(panel, ("notes.jpg", b"no photo"))
    assert "notes.jpg: it is not a photo" in status(panel) and panel.hits == []
    upload(panel, ("notes.jpg", b"no photo"), ("mine.jpg", (photos / "car" / "01.jpg").read_bytes()))
    assert "notes.jpg: it is not a photo" in status(panel) and shown(panel)[0] == "car/01.jpg"


def test_panel_photo_that_was_too_large_to_send_is_a_sentence(panel: SearchPanel, photos: Path) -> None:
    upload = {"upload": "1", "add": False}
    tell(panel._input, "photo", ((photos / "car" / "01.jpg").read_bytes(),), name="mine.jpg", last=False, **upload)
    tell(panel._input, "refused", name="<scan>.tif", megabytes=60, last=True, **upload)
    assert "&lt;scan&gt;.tif has 60 MB" in status(panel) and "at most 7 MB" in status(panel)
    assert shown(panel)[0] == "car/01.jpg"


Uploads = list[tuple[list[str], bool]]


@pytest.fixture
def uploads() -> Uploads:
    """What `photo_input` has been given so far: the names of each upload, and whether it adds."""
    return []


@pytest.fixture
def photo_input(uploads: Uploads) -> PhotoInput:
    return PhotoInput(
        lambda photos, add: uploads.append(([name for name, _ in photos], add)), lambda *_: None, lambda _: None
    )


def send(widget: PhotoInput, upload: str, name: str, last: bool = False, add: bool = False) -> None:
    tell(widget, "photo", (b"a photo",), upload=upload, name=name, add=add, last=last)


def test_photo_input_forgets_an_upload_that_was_left_unfinished(photo_input: PhotoInput, uploads: Uploads) -> None:
    send(photo_input, "left", "stale.jpg", add=True)
    send(photo_input, "next", "fresh.jpg", last=True)
    assert uploads == [(["fresh.jpg"], False)]


def test_photo_input_keeps_uploads_apart_whose_messages_alternate(photo_input: PhotoInput, uploads: Uploads) -> None:
    for number in range(3):
        send(photo_input, "one", f"1-{number}.jpg", last=number == 2, add=True)
        send(photo_input, "two", f"2-{number}.jpg", last=number == 2)
    assert uploads == [(["1-0.jpg", "1-1.jpg", "1-2.jpg"], True), (["2-0.jpg", "2-1.jpg", "2-2.jpg"], False)]


def test_photo_input_keeps_a_few_unfinished_uploads_of_bounded_size(photo_input: PhotoInput, uploads: Uploads) -> None:
    for upload in range(50):
        for photo in range(photo_input.max_photos + 5):
            send(photo_input, str(upload), f"{photo}.jpg")
    kept = photo_input._uploads
    assert list(kept) == ["46", "47", "48", "49"] and {len(photos) for photos in kept.values()} == {100}
    send(photo_input, "46", "last.jpg", last=True)
    assert len(uploads[0][0]) == 100 and list(kept) == ["47", "48", "49"]


def test_panel_camera_that_is_not_allowed_is_a_sentence(panel: SearchPanel) -> None:
    tell(panel._input, "failed", sentence="The camera can't be used.")
    assert "The camera can&#x27;t be used." in status(panel)


def without_vectors(index: Path, folder: Path) -> SearchPanel:
    shutil.copytree(index.parent, folder / "copy")
    gallery = Gallery.open(folder / "copy" / index.name, img_dir=Gallery.open(index).img_dir)
    gallery.store.vectors_path.unlink()
    return SearchPanel(Gallery.open(gallery.path, img_dir=gallery.img_dir), k=6)


def test_panel_without_the_vectors_file_does_all_by_the_index(gallery: Gallery, tmp_path: Path) -> None:
    panel = without_vectors(gallery.path, tmp_path)
    ask_row(panel, 2)
    tell(panel._grid, "mark", row=5, relevant=True)
    vector = vector_of(gallery, gallery.units([2, 5]).sum(axis=0))
    assert shown(panel) == expected(gallery, vector, 6) and panel.gallery._encoder._runtime is None
    panel._settings.suppress_near_duplicates = 0.5
    units = panel.gallery.units([hit.image_id for hit in panel.hits])
    assert (2 - 2 * units @ units.T + 4 * np.eye(len(units))).min() > 0.5
    panel._open_map.value = True
    points = panel._map._points()
    exact = 2 - 2 * gallery.units(range(75)) @ gallery.measure.units(vector[None])[0]
    nearness = points["nearness"].to_numpy()[np.argsort(exact)]
    assert (np.diff(nearness) < 1e-5).all() and nearness[0] == 1 and not nearness[38:].any()
    tell(panel._settings, "compare")
    assert "6 of the 6 nearest were found; comparing all photos approximately" in panel._settings.agreement


def test_panel_without_vectors_and_components_still_searches(raw_index: Path, tmp_path: Path) -> None:
    panel = without_vectors(raw_index, tmp_path)
    gallery = panel.gallery
    ask_row(panel, 2)
    assert shown(panel)[0] == gallery.names[2]
    tell(panel._grid, "mark", row=5, relevant=True)
    assert "vectors file" in status(panel) and "is missing" in status(panel)
    assert asked(panel)["marks"] == []
    panel._open_map.value = True
    assert "needs the vectors file" in panel._map._failure.value
    assert panel._settings.keywords() == {"k": 6}
    panel._settings.k = 5
    assert len(shown(panel)) == 5 and "ms to search" in status(panel)


def test_panel_keeps_its_widgets(panel: SearchPanel) -> None:
    panel._random.click()
    before = len(_instances)
    for row in range(20):
        ask_row(panel, row)
        tell(panel._grid, "mark", row=40, relevant=True)
    assert len(_instances) == before


def test_panel_tells_a_page_that_is_loaded_again(panel: SearchPanel, sent: Sent) -> None:
    ask_row(panel, 3)
    for widget, kind in ((panel._grid, "hits"), (panel._question, "question"), (panel._export, "visible")):
        before = widget._shown
        tell(widget, "ready")
        assert sent[-1][0] == kind and sent[-1][1] is before[0]


def test_panel_state_and_repr_hold_no_photo(panel: SearchPanel, photos: Path) -> None:
    upload(panel, ("mine.jpg", (photos / "car" / "01.jpg").read_bytes()))
    assert len(repr(panel)) < 200 and "base64" not in str(panel._repr_mimebundle_())
    for widget in (panel._grid, panel._question, panel._input, panel._status):
        state = str({name: value for name, value in widget.get_state().items() if name not in ("_esm", "_css")})
        assert "base64" not in state and "JFIF" not in state and "mine.jpg" not in state
