"""Visitors of the app: on phones, apart from each other, and when nobody answers them any more."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_page import app_server, asked_elsewhere, open_panel
from panel_page import asked, expected, frame, names, pick_random, press, search
from playwright.sync_api import Browser, Locator, Page, expect

from similar_images.search.gallery import Gallery

UNTIL_CULLED = """async () => {
    const page = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    const address = `${page.baseUrl}api/kernels/${page.kernelId}`;
    while ((await fetch(address)).ok) await new Promise((go) => setTimeout(go, 200));
}"""
SCROLLED = """() => {
    let part = document.querySelector(".similar-images");
    while (part && !part.scrollTop) part = part.parentElement;
    return part ? part.scrollTop : 0;
}"""
VIOLATION = """async () => {
    const violation = new Promise((done) => addEventListener("securitypolicyviolation", done));
    await fetch("http://photos.example/").catch(() => {});
    return (await violation).blockedURI;
}"""


@pytest.fixture(scope="module")
def app(index_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with app_server(tmp_path_factory.mktemp("app"), index_file) as address:
        yield address


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    page = browser.new_page()
    open_panel(page, app, "app")
    yield page
    page.close()


@pytest.fixture
def phone(browser: Browser, app: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 400, "height": 860}, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_panel(page, app, "app")
    yield page
    context.close()


def test_app_shows_no_code(page: Page) -> None:
    expect(page.get_by_text("import SearchPanel")).to_have_count(0)
    expect(page.get_by_text("The same in code")).to_have_count(0)
    expect(page.get_by_role("heading", name="Similar images")).to_be_visible()


def test_app_may_ask_nobody_else(page: Page) -> None:
    assert page.evaluate(VIOLATION) == "http://photos.example/"
    asked_elsewhere.clear()


def test_app_keeps_visitors_apart(browser: Browser, app: str, gallery: Gallery) -> None:
    visitors = [browser.new_context().new_page() for _ in range(2)]
    for page in visitors:
        open_panel(page, app, "app")
    found = [pick_random(page) for page in visitors]
    with search(visitors[0]):
        visitors[0].get_by_label("Folder", exact=True).select_option("sea")
    assert all(name.startswith("sea/") for name in names(visitors[0]))
    assert names(visitors[1]) == found[1] == expected(gallery, asked(visitors[1])[0])
    for page in visitors:
        page.context.close()


def swipe(page: Page, on: Locator, across: float, down: float) -> None:
    """Move a finger from the middle of something, by parts of its size."""
    box = on.bounding_box()
    assert box is not None
    touch = page.context.new_cdp_session(page)
    for at in range(12):
        x, y = box["x"] + box["width"] * (0.5 + across * at / 10), box["y"] + box["height"] * (0.5 + down * at / 10)
        kind = "touchStart" if at == 0 else "touchMove" if at < 11 else "touchEnd"
        points = [] if at == 11 else [{"x": x, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_swipe_over_the_photo_scrolls_and_crops_only_where_a_part_is_selected(phone: Page) -> None:
    found = pick_random(phone)
    stage = phone.locator(".si-stage")
    stage.scroll_into_view_if_needed()
    before = phone.evaluate(SCROLLED)
    swipe(phone, stage, 0.2, -0.45)
    phone.wait_for_function(f"({SCROLLED})() > {before} + 20")
    expect(phone.locator(".si-frame")).to_be_hidden()
    assert names(phone) == found
    phone.get_by_role("button", name="Select a part").tap()
    stage.scroll_into_view_if_needed()
    with search(phone):
        swipe(phone, stage, 0.4, 0.3)
    assert frame(phone) == pytest.approx((0.5, 0.5, 0.9, 0.8), abs=0.05)
    phone.get_by_role("button", name="Whole photo").tap()
    expect(phone.locator(".si-frame")).to_be_hidden()


def test_phone_reads_the_whole_panel_without_scrolling_sideways(phone: Page) -> None:
    pick_random(phone)
    press(phone, "Python")
    widest = phone.locator(".similar-images *").evaluate_all(
        "all => Math.max(...all.map((each) => each.getBoundingClientRect().right))"
    )
    code = phone.get_by_label("Python that repeats this search")
    expect(code).to_be_visible()
    assert widest <= 400


def message(page: Page) -> Locator:
    return page.get_by_role("dialog", name="This page has ended")


def test_visitor_whose_kernel_was_culled_and_whose_server_ended_is_told(
    browser: Browser, index_file: Path, tmp_path: Path
) -> None:
    quick = [
        f"--MappingKernelManager.{name}" for name in ("cull_idle_timeout=5", "cull_interval=1", "cull_connected=True")
    ]
    page = browser.new_page()
    with app_server(tmp_path, index_file, *quick) as address:
        open_panel(page, address, "app")
        page.evaluate(UNTIL_CULLED)
        press(page, "Random photo")
        expect(message(page)).to_contain_text(
            "This page was closed after some minutes without use. Reload it to go on."
        )
        message(page).get_by_role("button", name="Reload").click()
        page.locator(".similar-images .si-zone").wait_for()
        expect(message(page)).to_have_count(0)
    page.keyboard.press("Tab")
    expect(message(page)).to_contain_text("The server can't be reached. Once it is back, reload this page to go on.")
    page.close()


def test_visitor_whose_kernel_was_killed_is_told(page: Page, app: str) -> None:
    kernels = [each for each in psutil.process_iter() if "ipykernel_launcher" in " ".join(each.cmdline())]
    ours = [each for each in kernels if each.environ().get("SERVER_PORT") == app.rsplit(":", maxsplit=1)[-1]]
    max(ours, key=psutil.Process.create_time).kill()
    expect(message(page)).to_contain_text("This page has lost its kernel. Reload it to go on.")
    message(page).get_by_role("button", name="Reload").click()
    assert len(pick_random(page)) == 12
