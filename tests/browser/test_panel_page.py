"""The panel in a real Chromium, in Notebook 7, JupyterLab and the app: what a person does, and what the page shows."""

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import screenshot
from http_server import serve
from jupyter_page import (
    NOTEBOOK,
    PATIENCE_MS,
    app_server,
    notebook_server,
    open_notebook,
    open_panel,
    original_notebook,
    run_all_cells,
)
from panel_page import (
    SIZE,
    alert,
    ask_for,
    asked,
    begin_anew,
    choose,
    expected,
    frame,
    names,
    pick_random,
    press,
    remember_first_state,
    search,
    status,
    tile,
    upload,
)  # fmt: skip
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from similar_images.photos.images import cropped
from similar_images.search.gallery import Gallery
from similar_images.search.gallery_map import coordinates
from similar_images.store import index_building
from similar_images.store.base import Among
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

APPLICATIONS = {"notebook7": "notebooks", "jupyterlab": "lab/tree", "app": "app"}


@pytest.fixture(scope="module")
def lists_index(index_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the drawn pictures with inverted lists, which so small a gallery usually has not."""
    path = tmp_path_factory.mktemp("lists") / "lists.faiss.index"
    vectors = open_vectors(index_file.with_name("photos.saved_predictions.npy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_building, "POINTS_PER_LIST", 75 // 4)
        build_index(vectors, path, IndexSettings(nlist=4, nbits=4, pca=64))
    return path


@pytest.fixture(scope="module")
def gallery(lists_index: Path) -> Gallery:
    return Gallery.open(lists_index)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def notebooks(lists_index: Path, folder: Path) -> Iterator[str]:
    with notebook_server(folder, lists_index) as address:
        yield address


@pytest.fixture(scope="module")
def app(lists_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with app_server(tmp_path_factory.mktemp("app"), lists_index) as address:
        yield address


@pytest.fixture(scope="module", params=APPLICATIONS.values(), ids=APPLICATIONS)
def opened(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page with a panel, which the tests of an application share."""
    server = request.getfixturevalue("app" if request.param == "app" else "notebooks")
    page = browser.new_page(viewport=SIZE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_panel(page, server, request.param)
    remember_first_state(page)
    yield page
    expect(page.get_by_text(re.compile(r"Traceback|I0000|oneDNN|absl::"))).to_have_count(0)
    page.close()


@pytest.fixture
def page(opened: Page) -> Page:
    begin_anew(opened)
    return opened


def test_random_pick_shows_its_neighbours(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    assert found == expected(gallery, asked(page)[0], 12)
    expect(status(page)).to_contain_text("75 photos · mobilenet_v2, UNTRAINED weights · Center,PCA64,IVF4")


def test_upload_finds_the_photo_first(page: Page, gallery: Gallery, photos: Path) -> None:
    ask_for(page, "my clock.jpg", (photos / "clock" / "01.jpg").read_bytes())
    assert asked(page) == ["my clock.jpg"]
    expect(status(page)).to_contain_text("ms to encode")
    assert names(page) == expected(gallery, "clock/01.jpg", 12)


def test_upload_of_several_looks_for_what_they_share(page: Page, gallery: Gallery, photos: Path) -> None:
    paths = [photos / "clock" / "00.jpg", photos / "sea" / "01.jpg", photos / "car" / "02.jpg"]
    with search(page):
        choose(page, *paths)
    assert asked(page) == ["00.jpg", "01.jpg", "02.jpg"] and names(page) == expected(gallery, paths, 12)
    with search(page):
        page.get_by_role("button", name="Remove").nth(1).click()
    assert asked(page) == ["00.jpg", "02.jpg"] and names(page) == expected(gallery, [paths[0], paths[2]], 12)


def test_uploads_at_the_same_time_stay_apart(page: Page, photos: Path) -> None:
    several, one = [f"{number:02d}.jpg" for number in range(3)], "alone.jpg"
    files = [[f"sea/{name}" for name in several], ["car/01.jpg"]]
    contents = [[base64.b64encode((photos / file).read_bytes()).decode() for file in each] for each in files]
    page.evaluate(DROP_TOGETHER, [dict(zip(several, contents[0], strict=True)), {one: contents[1][0]}])
    first = page.get_by_text(one, exact=True)
    expect(page.locator(".si-asked")).to_have_text(several)
    expect(first).to_have_count(0)
    with search(page):
        press(page, "Back")
    assert asked(page) == [one] and names(page)[0] == "car/01.jpg"


def test_upload_can_add_to_what_is_asked_for(page: Page, gallery: Gallery, photos: Path) -> None:
    ask_for(page, "one.jpg", (photos / "clock" / "00.jpg").read_bytes())
    page.get_by_label("Combine with current photo").check()
    ask_for(page, "two.jpg", (photos / "sea" / "00.jpg").read_bytes())
    assert asked(page) == ["one.jpg", "two.jpg"]
    assert names(page) == expected(gallery, ["clock/00.jpg", "sea/00.jpg"], 12)


def test_upload_of_a_turned_photo_finds_its_original(page: Page, photos: Path) -> None:
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    with Image.open(photos / "car" / "02.jpg") as original:
        original.transpose(Image.Transpose.ROTATE_90).save(data, "JPEG", quality=95, exif=exif)
    ask_for(page, "turned.jpg", data.getvalue())
    assert names(page)[0] == "car/02.jpg"


def test_upload_of_12_turned_megapixels_is_shrunk_and_found_first(page: Page, photos: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos / "bricks" / "00.jpg") as original:
        pixels = np.array(original.resize((4000, 3000)), np.int16)
    grain = np.random.default_rng(0).integers(-40, 41, pixels.shape, np.int16)
    large = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
    large.save(tmp_path / "large.jpg", quality=100, subsampling=1, exif=exif)
    assert (tmp_path / "large.jpg").stat().st_size > 15_000_000
    with search(page):
        choose(page, tmp_path / "large.jpg")
    expect(page.locator(".si-asked")).to_have_text(["large.jpg"])  # to shrink it takes the page seconds
    expect(page.locator(".si-tile .si-name").first).to_have_text("bricks/00.jpg")


def test_upload_of_60_mb_that_no_browser_reads_is_a_sentence(page: Page, tmp_path: Path) -> None:
    (tmp_path / "scan.jpg").write_bytes(b"no photo at all " * 3_750_000)
    choose(page, tmp_path / "scan.jpg")
    expect(alert(page)).to_have_text(re.compile(r"scan\.jpg has 60 MB and can't be made smaller.*at most 7 MB"))
    assert len(pick_random(page)) == 12


def test_camera_photo_is_searched_for(page: Page) -> None:
    press(page, "Camera")
    dialog = page.get_by_role("dialog", name="Camera")
    dialog.locator("video").evaluate(
        "async (video) => { while (!video.videoWidth) await new Promise((go) => setTimeout(go, 50)); }"
    )
    with search(page):
        dialog.get_by_role("button", name="Take the photo").click()
    assert asked(page) == ["camera photo"] and len(names(page)) == 12
    expect(page.get_by_role("dialog")).to_have_count(0)


DROP_TOGETHER = """(uploads) => {
    const zone = document.querySelector(".si-zone");
    for (const upload of uploads) {
        const dataTransfer = new DataTransfer();
        for (const [name, content] of Object.entries(upload)) {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            dataTransfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
        }
        zone.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
    }
}"""


def drop(page: Page, kind: str, content: str) -> None:
    """Drop a file (its bytes in base64) or an address onto the input, as a real drop event."""
    data = page.evaluate_handle(
        """([kind, content]) => {
            const data = new DataTransfer();
            if (kind === "file") {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                data.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
            } else data.setData("text/uri-list", content);
            return data;
        }""",
        [kind, content],
    )
    zone = page.get_by_role("group", name="Your photo")
    zone.dispatch_event("dragover", {"dataTransfer": data})
    zone.dispatch_event("drop", {"dataTransfer": data})


def test_dropped_photo_is_found_first(page: Page, gallery: Gallery, photos: Path) -> None:
    with search(page):
        drop(page, "file", base64.b64encode((photos / "car" / "00.jpg").read_bytes()).decode())
    assert asked(page) == ["dropped.jpg"] and names(page) == expected(gallery, "car/00.jpg", 12)


@pytest.mark.parametrize("opened", ["notebooks", "lab/tree"], indirect=True)  # an app fetches nothing from this machine
def test_dropped_address_is_fetched(page: Page, photos: Path) -> None:
    with serve(photos) as (address, _):
        with search(page):
            drop(page, "address", f"{address}/clock/00.jpg")
        assert asked(page) == [f"{address}/clock/00.jpg"]
    assert names(page)[0] == "clock/00.jpg"


@pytest.mark.parametrize("opened", ["app"], indirect=True)
def test_app_fetches_nothing_from_this_machine_whatever_its_notebook_allows(page: Page, photos: Path) -> None:
    box = page.get_by_label("Address of a photo")
    with serve(photos) as (address, requests):
        box.fill(f"{address}/sea/00.jpg")
        box.press("Enter")
        expect(alert(page)).to_have_text(re.compile(r"it does not lead to the public internet"))
    assert requests == []


def paste(page: Page) -> None:
    page.get_by_role("group", name="Your photo").focus()
    page.keyboard.press("Control+v")


def test_pasted_photo_is_found_first(page: Page, photos: Path) -> None:
    png = io.BytesIO()
    with Image.open(photos / "face" / "02.jpg") as original:
        original.save(png, "PNG")
    page.evaluate(
        """async (content) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const blob = new Blob([bytes], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        base64.b64encode(png.getvalue()).decode(),
    )
    with search(page):
        paste(page)
    assert names(page)[0] == "face/02.jpg"


@pytest.mark.parametrize("opened", ["notebooks", "lab/tree"], indirect=True)  # an app fetches nothing from this machine
def test_pasted_address_is_fetched(page: Page, photos: Path) -> None:
    with serve(photos) as (address, _):
        page.evaluate("(text) => navigator.clipboard.writeText(text)", f"{address}/sea/02.jpg")
        with search(page):
            paste(page)
    assert names(page)[0] == "sea/02.jpg"


def test_screenshot_is_asked_by_the_photo_in_it_until_that_is_taken_back(
    page: Page, gallery: Gallery, photos: Path
) -> None:
    picture = screenshot(photos / "bricks" / "00.jpg")
    ask_for(page, "page.png", picture)
    assert names(page)[0] == "bricks/00.jpg"
    expect(status(page)).to_contain_text("“Whole photo” undoes that")
    assert frame(page) == pytest.approx((60 / 440, 200 / 540, 380 / 440, 440 / 540), abs=0.01)
    with search(page):
        press(page, "Whole photo")
    expect(page.locator(".si-frame")).to_be_hidden()
    assert names(page) == expected(gallery, picture, 12, find_photo=False) != expected(gallery, picture, 12)


def test_part_of_the_photo_is_marked_by_mouse(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    path = gallery.img_dir / asked(page)[0]
    stage = page.locator(".si-stage").bounding_box()
    assert stage is not None
    with search(page):
        page.mouse.move(stage["x"] + 0.1 * stage["width"], stage["y"] + 0.2 * stage["height"])
        page.mouse.down()
        page.mouse.move(stage["x"] + 0.5 * stage["width"], stage["y"] + 0.9 * stage["height"], steps=5)
        page.mouse.up()
    box = frame(page)
    assert box == pytest.approx((0.1, 0.2, 0.5, 0.9), abs=0.02)
    assert names(page) == expected(gallery, cropped(path, box), 12)
    with search(page):
        press(page, "Whole photo")
    assert names(page) == expected(gallery, path, 12)


def test_part_of_the_photo_is_marked_by_keyboard(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    path = gallery.img_dir / asked(page)[0]
    page.locator(".si-stage").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown"):
        page.keyboard.press(key)
    with search(page):
        page.keyboard.press("Enter")
    assert frame(page) == pytest.approx((0.25, 0.15, 0.85, 0.8), abs=0.01)
    assert names(page) == expected(gallery, cropped(path, (0.25, 0.15, 0.85, 0.8)), 12)
    page.locator(".si-stage").focus()
    with search(page):
        page.keyboard.press("Escape")
    assert names(page) == expected(gallery, path, 12)


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_tile_searches_on_from_there(page: Page, gallery: Gallery, how: str) -> None:
    name = pick_random(page)[3]
    with search(page):
        press(page, f"Search from {name}", how)
    assert asked(page) == [name] and names(page) == expected(gallery, name, 12)


def test_arrow_keys_go_from_tile_to_tile(page: Page) -> None:
    found = pick_random(page)
    columns = page.locator(".si-grid").evaluate(
        "(grid) => getComputedStyle(grid).gridTemplateColumns.split(' ').length"
    )
    tile(page, found[0]).focus()
    for key, at in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("End", 11), ("Home", 0)):
        page.keyboard.press(key)
        expect(tile(page, found[at])).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=f"More like {found[0]}", exact=True)).to_be_focused()


def marked(gallery: Gallery, name: str, relevant: list[str], irrelevant: list[str]) -> list[str]:
    """Return what Rocchio's formula finds, worked out from the stored vectors."""
    rows = {each: row for row, each in enumerate(gallery.names)}
    moved = gallery.units([rows[name]])[0]
    if relevant:
        moved = moved + gallery.units([rows[each] for each in relevant]).mean(axis=0)
    if irrelevant:
        moved = moved - 0.3 * gallery.units([rows[each] for each in irrelevant]).mean(axis=0)
    among = Among(without=tuple(gallery.row(name) for name in irrelevant))
    return expected(gallery, gallery.measure.vectors_of(moved[None])[0], 12, among=among)


def test_marks_by_mouse_refine_the_search_and_can_be_removed(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    name, more = asked(page)[0], found[4]
    mark(page, "More", more)
    less = next(each for each in names(page)[1:] if each not in (name, more))  # of what is left of those first found
    mark(page, "Less", less)
    assert names(page) == marked(gallery, name, [more], [less])
    expect(page.get_by_role("list", name="More like").locator("li")).to_have_attribute("title", f"more like {more}")
    expect(page.get_by_role("list", name="Less like").locator("li")).to_have_attribute("title", f"less like {less}")
    with search(page):
        press(page, f"remove: less like {less}")
    assert names(page) == marked(gallery, name, [more], [])
    with search(page):
        press(page, f"remove: more like {more}")
    assert names(page) == found
    expect(page.locator(".si-marked")).to_have_count(0)


def mark(page: Page, sign: str, name: str) -> None:
    with search(page):
        tile(page, name).hover()
        press(page, f"{sign} like {name}")


def test_marks_by_keyboard_refine_the_search(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    name = asked(page)[0]
    tile(page, found[5]).focus()
    with search(page):
        page.keyboard.press("-")
    assert names(page) == marked(gallery, name, [], [found[5]])
    more = names(page)[3]
    tile(page, more).focus()
    with search(page):
        page.keyboard.press("+")
    assert names(page) == marked(gallery, name, [more], [found[5]])
    assert page.evaluate("document.activeElement.closest('.si-tile') !== null"), "the keyboard stays in the grid"


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_closer_look_shows_facts_neighbours_and_why(page: Page, gallery: Gallery, how: str) -> None:
    found = pick_random(page)
    hits = gallery.search(asked(page)[0], 12, expand=3)
    tile(page, found[2]).focus()
    tile(page, found[2]).hover()
    press(page, f"Look closer at {found[2]}", how)
    dialog = page.get_by_role("dialog", name="A closer look")
    expect(dialog.locator("figcaption").nth(0)).to_have_text(f"Query{asked(page)[0]}")
    expect(dialog.locator("figcaption").nth(1)).to_have_text(f"Result{found[2]}")
    expect(dialog.locator("dd").nth(1)).to_have_text(str(hits[2].path))
    expect(dialog.locator("dd").nth(2)).to_contain_text("pixels")
    expect(dialog.locator("dd").nth(5)).to_have_text(f"{hits[2].distance:.4f}")
    if how == "mouse":
        dialog.get_by_role("button", name="Next hit").click()
    else:
        page.keyboard.press("ArrowRight")
    expect(dialog.locator("dd").nth(0)).to_have_text(found[3])
    picture = dialog.get_by_alt_text(found[3])
    plain = picture.get_attribute("src")
    press(page, "Why this?", how)
    expect(dialog.get_by_text("An aid to explain a match")).to_be_visible()
    assert picture.get_attribute("src") != plain
    press(page, "Why this?", how)
    expect(dialog.get_by_text("An aid to explain a match")).to_have_count(0)
    if how == "mouse":
        press(page, "Close")
    else:
        page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert names(page) == found


def test_closer_look_leads_on(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    tile(page, found[6]).hover()
    press(page, f"Look closer at {found[6]}")
    with search(page):
        press(page, "Search from here")
    assert asked(page) == [found[6]] and names(page) == expected(gallery, found[6], 12)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_tiles_have_pictures_that_are_loaded(page: Page) -> None:
    for name in pick_random(page):
        picture = page.locator(".si-tile").get_by_alt_text(name, exact=True)
        assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") == 240


def set_range(page: Page, label: str, value: str) -> None:
    slider = page.get_by_label(label, exact=True)
    with search(page):
        slider.fill(value)
        slider.dispatch_event("change")


DIAL = "Look for: the same photo or the same kind"


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_dial_orders_the_result_anew_without_encoding(page: Page, gallery: Gallery, photos: Path, how: str) -> None:
    ask_for(page, "mine.jpg", (photos / "clock" / "01.jpg").read_bytes())
    dial, orders = page.get_by_label(DIAL), []
    for key, focus, fraction in (("Home", -0.3, 0), ("PageUp", -0.2, 1 / 6), ("End", 0.3, 1)):
        box = dial.bounding_box()
        assert box is not None
        with search(page):
            if how == "mouse":
                dial.click(position={"x": 8 + fraction * (box["width"] - 16), "y": box["height"] / 2})
            else:
                dial.press(key)
        assert float(dial.input_value()) == focus and names(page) == expected(gallery, "clock/01.jpg", focus=focus)
        expect(status(page)).not_to_contain_text("ms to encode")
        orders.append(names(page))
    assert orders[0] != orders[-1]
    expect(dial).to_have_attribute("aria-valuetext", "0.3, from -0.3, the same photo, to 0.3, the same kind")


def test_gallery_by_raw_cosine_has_no_dial(browser: Browser, raw_index: Path, tmp_path: Path) -> None:
    with app_server(tmp_path, raw_index) as app:
        page = browser.new_page(viewport=SIZE)
        open_panel(page, app, "app")
        expect(page.get_by_label("Results", exact=True)).to_be_visible()
        expect(page.get_by_label(DIAL)).to_have_count(0)
        assert pick_random(page) == expected(Gallery.open(raw_index), asked(page)[0], focus=None)
        page.close()


def test_first_results_are_asked_by_until_told_not_to(page: Page, gallery: Gallery) -> None:
    query = pick_random(page) and asked(page)[0]
    caption = page.locator(".si-results > .si-hint")
    expect(caption).to_have_text("Similarity to your photo and its 3 nearest")
    with search(page):
        page.get_by_label("Query expansion by the first 3 results").press("Space")
    expect(caption).to_have_text("Similarity to your photo")
    assert names(page) == expected(gallery, query, expand=0)
    with search(page):
        page.get_by_label("Query expansion by the first 3 results").check()
    assert names(page) == expected(gallery, query)


def test_results_can_be_more_or_fewer(page: Page) -> None:
    first = pick_random(page)
    for count in ("20", "3", "12"):
        set_range(page, "Results", count)
        expect(page.locator(".si-tile")).to_have_count(int(count))
    slider = page.get_by_label("Results", exact=True)
    slider.focus()
    with search(page):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".si-tile")).to_have_count(13)
    with search(page):
        page.keyboard.press("ArrowLeft")
    assert names(page) == first


def test_more_can_be_shown_up_to_all(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    for count, how in ((36, "mouse"), (60, "keyboard"), (75, "mouse")):
        with search(page):
            press(page, "Show more", how)
        expect(page.locator(".si-tile")).to_have_count(count)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    assert names(page) == expected(gallery, asked(page)[0], 75)


def test_filter_by_folder_and_name_keeps_k_hits(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    query = asked(page)[0]
    with search(page):
        page.get_by_label("Folder", exact=True).select_option("sea")
    assert names(page) == expected(gallery, query, 12, among=Among(folder="sea"))
    with search(page):
        page.get_by_label("Folder", exact=True).select_option("all folders")
    with search(page):
        page.get_by_label("Name", exact=True).fill("*/01.jpg")
        page.keyboard.press("Enter")
    assert names(page) == expected(gallery, query, 12, among=Among(pattern="*/01.jpg"))
    assert len(names(page)) == 12
    with search(page):
        page.get_by_label("Name", exact=True).fill("nothing is called this")
        page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("no photo is left to find")


def test_near_duplicates_are_hidden(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    set_range(page, "Hide near-duplicates", "0.5")
    fewer = names(page)
    assert fewer == expected(gallery, asked(page)[0], 12, suppress_near_duplicates=0.5) != found
    set_range(page, "Hide near-duplicates", "0")
    assert names(page) == found


def test_scores_are_shown_under_the_pointer_or_always(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    hit = gallery.search(asked(page)[0], 12, expand=3)[5]
    score = page.locator(".si-score").nth(5)
    begin_anew(page)
    expect(score).to_have_css("opacity", "0")
    expect(score).to_have_text(f"6 · {hit.similarity:.3f}")
    tile(page, hit.name).hover()
    expect(score).to_have_css("opacity", "1")
    page.mouse.move(0, 0)
    page.get_by_label("Show scores").check()
    expect(score).to_have_css("opacity", "1")
    bar = page.locator(".si-bar").nth(5)
    text = f"similarity {hit.similarity:.3f} to your photo and its 3 nearest, distance {hit.distance:.3f}"
    expect(bar).to_have_attribute("aria-label", text)
    part = bar.evaluate("(bar) => bar.firstChild.offsetWidth / bar.offsetWidth")
    assert part == pytest.approx(hit.similarity, abs=0.02)


def test_search_settings_show_what_a_search_costs(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    query = asked(page)[0]
    page.get_by_text("Search settings").click()
    set_range(page, "Inverted lists to search", "1")
    assert names(page) == expected(gallery, query, 12, nprobe=1)
    expect(page.get_by_text("it scanned 1 of 4 inverted lists twice")).to_be_visible()
    press(page, "Compare with an exact search", "keyboard")
    found = set(expected(gallery, query, 12, nprobe=1, expand=0))
    exact = [name in found for name in expected(gallery, query, 12, nprobe=4, rerank=75, expand=0)]
    expect(page.get_by_text(f"{sum(exact)} of the 12 nearest were found")).to_be_visible()
    set_range(page, "Candidates to re-rank exactly", "0")
    expect(page.get_by_text("re-ranked 0 candidates exactly")).to_be_visible()


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_back_and_forward(page: Page, how: str) -> None:
    steps = []
    for _ in range(3):
        found = pick_random(page)
        steps.append((asked(page), found))
    for name, at in (("Back", 1), ("Back", 0), ("Forward", 1), ("Forward", 2)):
        with search(page):
            press(page, name, how)
        assert (asked(page), names(page)) == steps[at]
    expect(page.get_by_role("button", name="Forward")).to_be_disabled()


def test_hits_are_taken_along(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    contents = {}
    for name, how in (("CSV", "mouse"), ("JSON", "keyboard"), ("Contact sheet", "mouse")):
        with page.expect_download() as download:
            press(page, name, how)
        contents[download.value.suggested_filename] = Path(download.value.path()).read_bytes()
    assert [row["name"] for row in csv.DictReader(io.StringIO(contents["similar.csv"].decode()))] == found
    assert [row["name"] for row in json.loads(contents["similar.json"])] == found
    sheet = Image.open(io.BytesIO(contents["similar.png"]))
    assert sheet.format == "PNG" and sheet.width > 900 and sheet.height > 500
    press(page, "Python")
    code = page.get_by_label("Python that repeats this search")
    expect(code).to_contain_text("gallery.search(query, k=12")
    expect(code).to_contain_text(asked(page)[0])
    press(page, "Copy")
    expect(page.get_by_text("copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == code.text_content()


def point_at(page: Page, place: list[float], name: str) -> None:
    """Move the mouse over a point of the map until its photo is named: at first the points are not drawn yet."""
    area = page.locator(".similar-images canvas").first.bounding_box()
    assert area is not None
    half = min(area["width"], area["height"]) / 2 / 1.08
    x, y = area["x"] + area["width"] / 2 + place[0] * half, area["y"] + area["height"] / 2 - place[1] * half
    named = page.locator(".si-photo figcaption", has_text=name)
    for tries in range(PATIENCE_MS // 250):
        page.mouse.move(x + (tries % 5 - 2) / 2, y)
        with suppress(AssertionError):
            return expect(named).to_be_visible(timeout=250)
    raise AssertionError(f"the map does not show {name}")


def test_map_shows_photos_and_searches_by_mouse_and_keyboard(page: Page, gallery: Gallery) -> None:
    pick_random(page)
    press(page, "Map")
    canvas = page.locator(".similar-images canvas").first
    expect(canvas).to_be_visible()
    canvas.scroll_into_view_if_needed()
    placed = coordinates(gallery).tolist()
    far = max(range(75), key=lambda row: placed[row][0])  # a photo at the edge, whose point stands alone
    caption = page.locator(".si-photo figcaption")
    point_at(page, placed[far], gallery.names[far])
    with search(page):
        page.mouse.down()
        page.mouse.up()
    assert asked(page) == [gallery.names[far]] and names(page) == expected(gallery, far, 12)
    page.get_by_label("Colour by").select_option("distance to the query")
    before = caption.text_content()
    press(page, "←", "keyboard")
    expect(caption).not_to_have_text(str(before))
    stepped = caption.text_content()
    with search(page):
        press(page, "Search from it", "keyboard")
    assert asked(page) == [stepped]
    press(page, "Map")
    expect(canvas).to_be_hidden()


@pytest.mark.parametrize("opened", ["notebooks", "lab/tree"], indirect=True)  # an app fetches nothing from this machine
def test_address_searches_and_a_failing_one_is_a_sentence(page: Page, photos: Path) -> None:
    box = page.get_by_label("Address of a photo")
    with serve(photos) as (address, _):
        with search(page):
            box.fill(f"{address}/sea/00.jpg")
            box.press("Enter")
        assert asked(page) == [f"{address}/sea/00.jpg"]
        found = names(page)
        assert found[0] == "sea/00.jpg"
        box.fill(f"{address}/missing.jpg")
        press(page, "Search")
        expect(alert(page)).to_have_text(re.compile(r"/missing\.jpg: the server answered 404"))
    assert names(page) == found


def test_bad_upload_is_a_sentence_and_the_panel_goes_on(page: Page) -> None:
    upload(page, "notes.jpg", b"no photo at all")
    expect(alert(page)).to_have_text(re.compile(r"^notes\.jpg: it is not a photo in a format that is read: JPEG, PNG"))
    assert len(pick_random(page)) == 12
    expect(alert(page)).to_have_count(0)


BOXES = """() => {
    const panel = document.querySelector(".similar-images").getBoundingClientRect();
    const parts = [...document.querySelectorAll(".similar-images > :not(:last-child) *")]; // the last has the map
    const boxes = parts.filter((part) => part.checkVisibility()).map((part) => part.getBoundingClientRect());
    return boxes.map((box) => [box.left - panel.left, box.top - panel.top, box.width, box.height].map(Math.round));
}"""


def test_map_moves_nothing_and_dialogs_open_in_the_middle(page: Page) -> None:
    found = pick_random(page)
    boxes = page.evaluate(BOXES)
    press(page, "Map")
    expect(page.locator(".similar-images canvas").first).to_be_visible()
    begin_anew(page)
    assert page.evaluate(BOXES) == boxes
    tile(page, found[3]).hover()
    press(page, f"Look closer at {found[3]}")
    assert off_centre(page, "A closer look") == pytest.approx((0, 0), abs=10)
    page.keyboard.press("Escape")
    press(page, "Camera")
    assert off_centre(page, "Camera") == pytest.approx((0, 0), abs=10)


def off_centre(page: Page, dialog: str) -> tuple[float, float]:
    """Return how far from the middle of the window a dialog is, in pixels."""
    shown = page.get_by_role("dialog", name=dialog)
    expect(shown).to_be_visible()
    box = shown.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2 - SIZE["width"] / 2, box["y"] + box["height"] / 2 - SIZE["height"] / 2


@pytest.mark.parametrize("opened", ["notebooks", "app"], indirect=True)  # JupyterLab keeps the width for its file list
def test_panel_fits_a_narrow_window(page: Page) -> None:
    pick_random(page)
    page.set_viewport_size({"width": 760 if "/notebooks" in page.url else 400, "height": 900})
    panel = page.locator(".similar-images").bounding_box()
    assert panel is not None
    for part in page.locator(".si-tile, .si-zone, .si-setting, .si-setting > *, .si-example").all():
        box = part.bounding_box()
        assert box is not None and box["x"] + box["width"] <= panel["x"] + panel["width"] + 1


@pytest.fixture
def fresh(folder: Path, tmp_path: Path) -> Path:
    """A notebook of a test's own, beside the one that others open."""
    return Path(shutil.copy(original_notebook(folder), folder / f"{tmp_path.name}.ipynb"))


def is_in_view(page: Page, part: Locator) -> bool:
    """Return whether all of something is between Jupyter's own bars and the end of the window."""
    box, window = part.bounding_box(), page.viewport_size
    assert box is not None and window is not None
    return box["y"] >= 100 and box["y"] + box["height"] <= window["height"]


@pytest.mark.parametrize("application", ["notebooks", "lab/tree"])
def test_run_all_cells_ends_with_the_panel_in_view(
    browser: Browser, notebooks: str, fresh: Path, application: str
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    open_notebook(page, notebooks, application, fresh.name)
    run_all_cells(page)
    page.locator(".similar-images .si-zone").wait_for()
    expect(page.get_by_text(re.compile(r"1 +0\.000"))).to_be_attached()  # of the last cell
    assert is_in_view(page, page.locator(".similar-images"))
    page.close()


@pytest.mark.parametrize("application", ["notebooks", "lab/tree"])
def test_run_all_cells_without_a_gallery_shows_what_to_do(
    browser: Browser, notebooks: str, fresh: Path, application: str
) -> None:
    fresh.write_text(fresh.read_text().replace("default_index()", "'missing.faiss.index'", 1))
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    open_notebook(page, notebooks, application, fresh.name)
    run_all_cells(page)
    sentence = page.get_by_text("there is no index missing.faiss.index: build_search_db.py")
    expect(sentence).to_be_visible()
    assert is_in_view(page, sentence)
    page.close()


def test_panel_whose_kernel_was_restarted_says_so(browser: Browser, notebooks: str, fresh: Path) -> None:
    page = browser.new_page()
    open_notebook(page, notebooks, "notebooks", fresh.name)
    run_all_cells(page)
    pick_random(page)
    page.evaluate("() => jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.restart()")
    expect(alert(page)).to_have_text("The kernel of this panel has ended. Run the cell again to go on.")
    page.close()


def test_saved_copy_holds_no_photo_and_the_notebook_stays_as_it_is(
    browser: Browser, notebooks: str, folder: Path, photos: Path
) -> None:
    original = original_notebook(folder)
    before = original.read_bytes()
    page = browser.new_page(viewport=SIZE)
    open_panel(page, notebooks, "notebooks")
    ask_for(page, "private.jpg", (photos / "face" / "01.jpg").read_bytes())
    page.get_by_role("menuitem", name="File", exact=True).click()
    with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url):
        page.locator('[role="menuitem"][data-command="docmanager:save"]').click()
    saved = (folder / NOTEBOOK).read_text()
    assert any(cell.get("outputs") for cell in json.loads(saved)["cells"])
    assert original.read_bytes() == before
    assert len(saved) < 100_000 and "base64" not in saved and "private.jpg" not in saved
    page.close()
