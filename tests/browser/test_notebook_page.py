"""The notebook in a real Chromium, in Notebook 7 and JupyterLab: what a person does, and what the page then shows."""

import base64
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from http_server import serve
from jupyter_page import CHROMIUM, NOTEBOOK, chromium, notebook_server, open_notebook
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from similar_images.gallery import Gallery

SECONDS = 30_000  # the first photo of one's own loads the encoder

if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("there is no Chromium on this machine: apt install chromium, say", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(index_file: Path, folder: Path) -> Iterator[str]:
    with notebook_server(folder, index_file) as address:
        yield address


@pytest.fixture(scope="module", params=["notebooks", "lab/tree"], ids=["notebook7", "jupyterlab"])
def page(request: pytest.FixtureRequest, browser: Browser, server: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    open_notebook(page, server, request.param)
    yield page
    expect(page.get_by_text(re.compile(r"Traceback|I0000|oneDNN|absl::"))).to_have_count(0)
    page.close()


def status(page: Page) -> Locator:
    return page.locator(".similar-images .si-status")


@contextmanager
def search(page: Page) -> Iterator[None]:
    """Wait for the result of a search that begins inside: a new status line with its milliseconds."""
    status(page).evaluate("line => line.dataset.before = 'yes'")
    yield
    expect(page.locator(".si-status:not([data-before])")).to_contain_text("ms to search", timeout=SECONDS)


def pick_random(page: Page) -> list[str]:
    with search(page):
        page.get_by_role("button", name="Random photo").click()
    return names(page)


def alert(page: Page) -> Locator:
    return page.locator(".similar-images").get_by_role("alert")


def names(page: Page) -> list[str]:
    return page.locator(".si-tile:visible figcaption span:first-child").all_inner_texts()


def choose(page: Page, file: Path | FilePayload) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files(file)


def upload(page: Page, name: str, content: bytes) -> None:
    choose(page, {"name": name, "mimeType": "image/jpeg", "buffer": content})


def asked(page: Page) -> Locator:
    return page.locator(".si-query figcaption span").first


def test_random_pick_shows_its_neighbours(page: Page, gallery: Gallery) -> None:
    found = pick_random(page)
    assert found == [hit.name for hit in gallery.search(asked(page).inner_text(), 12)]
    expect(status(page)).to_contain_text("75 photos · mobilenet_v2, UNTRAINED weights · Flat")


def test_upload_finds_the_photo_first(page: Page, gallery: Gallery, photos: Path) -> None:
    with search(page):
        upload(page, "my clock.jpg", (photos / "clock" / "01.jpg").read_bytes())
    expect(asked(page)).to_have_text("my clock.jpg")
    expect(status(page)).to_contain_text("ms to encode")
    assert names(page) == [hit.name for hit in gallery.search("clock/01.jpg", 12)]


def test_upload_of_a_turned_photo_finds_its_original(page: Page, photos: Path) -> None:
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    with Image.open(photos / "car" / "02.jpg") as original:
        original.transpose(Image.Transpose.ROTATE_90).save(data, "JPEG", quality=95, exif=exif)
    with search(page):
        upload(page, "turned.jpg", data.getvalue())
    assert names(page)[0] == "car/02.jpg"


def test_upload_of_a_large_turned_photo_is_shrunk_and_arrives(page: Page, photos: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos / "bricks" / "00.jpg") as original:
        pixels = np.array(original.resize((4000, 3000)), np.int16)
    grain = np.random.default_rng(0).integers(-40, 41, pixels.shape, np.int16)
    large = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
    large.save(tmp_path / "large.jpg", quality=99, exif=exif)
    assert (tmp_path / "large.jpg").stat().st_size > 12_000_000
    with search(page):
        choose(page, tmp_path / "large.jpg")
    expect(asked(page)).to_have_text("large.jpg")
    assert names(page)[0] == "bricks/00.jpg"


def test_upload_of_60_mb_that_no_browser_reads_is_a_sentence(page: Page, tmp_path: Path) -> None:
    (tmp_path / "scan.jpg").write_bytes(b"no photo at all " * 3_750_000)
    choose(page, tmp_path / "scan.jpg")
    expect(alert(page)).to_have_text(re.compile(r"scan\.jpg has 60 MB and can't be made smaller.*at most 7 MB"))
    assert len(pick_random(page)) == 12


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
    expect(asked(page)).to_have_text("dropped.jpg")
    assert names(page) == [hit.name for hit in gallery.search("car/00.jpg", 12)]


def test_dropped_address_is_fetched(page: Page, photos: Path) -> None:
    with serve(photos) as (address, _):
        with search(page):
            drop(page, "address", f"{address}/clock/00.jpg")
        expect(asked(page)).to_have_text(f"{address}/clock/00.jpg")
    assert names(page)[0] == "clock/00.jpg"


def test_pasted_photo_is_found_first(page: Page, gallery: Gallery, photos: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
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
        page.get_by_role("group", name="Your photo").focus()
        page.keyboard.press("Control+v")
    assert names(page)[0] == "face/02.jpg"


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_tile_searches_on_from_there(page: Page, gallery: Gallery, how: str) -> None:
    name = pick_random(page)[3]
    tile = page.get_by_role("button", name=f"Search from {name}")
    with search(page):
        if how == "mouse":
            tile.click()
        else:
            tile.focus()
            page.keyboard.press("Enter")
    expect(asked(page)).to_have_text(name)
    assert names(page) == [hit.name for hit in gallery.search(name, 12)]


def test_tiles_have_pictures_with_alternative_text(page: Page) -> None:
    for name in pick_random(page):
        picture = page.locator(".si-tile:visible").get_by_alt_text(name)
        assert picture.evaluate("image => image.complete && image.naturalWidth") == 160


def test_results_can_be_more_or_fewer(page: Page) -> None:
    first = pick_random(page)
    for count in ("20", "3", "12"):
        with search(page):
            page.get_by_label("Results").fill(count)
            page.keyboard.press("Enter")
        expect(page.locator(".si-tile:visible")).to_have_count(int(count))
    assert names(page) == first


def test_address_searches_and_a_failing_one_is_a_sentence(page: Page, photos: Path) -> None:
    box = page.get_by_placeholder("address of a photo")
    with serve(photos) as (address, _):
        with search(page):
            box.fill(f"{address}/sea/00.jpg")
            box.press("Enter")
        expect(asked(page)).to_have_text(f"{address}/sea/00.jpg")
        found = names(page)
        assert found[0] == "sea/00.jpg"
        box.fill(f"{address}/missing.jpg")
        page.get_by_role("button", name=re.compile("Search$")).click()
        expect(alert(page)).to_have_text(re.compile(r"/missing\.jpg: the server answered 404"), timeout=SECONDS)
    assert names(page) == found


def test_bad_upload_is_a_sentence_and_the_panel_goes_on(page: Page) -> None:
    upload(page, "notes.jpg", b"no photo at all")
    expect(alert(page)).to_have_text("notes.jpg: it is not a photo in a format that Pillow reads", timeout=SECONDS)
    assert len(pick_random(page)) == 12
    expect(alert(page)).to_have_count(0)


def test_saved_notebook_holds_no_photo(page: Page, folder: Path, photos: Path) -> None:
    with search(page):
        upload(page, "private.jpg", (photos / "face" / "01.jpg").read_bytes())
    before = (folder / NOTEBOOK).stat().st_mtime_ns
    page.locator(".jp-Notebook").click(position={"x": 5, "y": 5})
    page.keyboard.press("Control+s")
    for _ in range(50):
        if (folder / NOTEBOOK).stat().st_mtime_ns != before:
            break
        page.wait_for_timeout(200)
    assert (folder / NOTEBOOK).stat().st_mtime_ns != before, "the notebook was not saved"
    saved = (folder / NOTEBOOK).read_text()
    assert any(cell.get("outputs") for cell in json.loads(saved)["cells"])
    assert len(saved) < 20_000 and "base64" not in saved and "private.jpg" not in saved


def test_panel_fits_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 760, "height": 900})
    pick_random(page)
    panel = page.locator(".similar-images").bounding_box()
    assert panel is not None
    for tile in page.locator(".si-tile:visible").all():
        box = tile.bounding_box()
        assert box is not None and box["x"] + box["width"] <= panel["x"] + panel["width"] + 1
    page.set_viewport_size({"width": 1280, "height": 1000})
