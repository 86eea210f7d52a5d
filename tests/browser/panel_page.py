"""The panel as tests see and handle it on a page."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from playwright.sync_api import FilePayload, Locator, Page, expect

from similar_images.photos.images import Box
from similar_images.search.gallery import Gallery, Hit

SIZE = {"width": 1280, "height": 1000}
CONTROLS = ".similar-images .si-settings :is(input[type=range], input[type=search], input:checked, select)"
REMEMBER = f"""() => {{
    window.part = (control) => (control.type === "checkbox" ? "checked" : "value");
    window.controls = [...document.querySelectorAll("{CONTROLS}")].map((control) => [control, control[part(control)]]);
}}"""
CHANGED = """() => [...window.controls.keys()].filter((at) => {
    const [control, first] = window.controls[at];
    return control[part(control)] !== first;
})"""
RESTORE = """(at) => {
    const [control, first] = window.controls[at];
    control[part(control)] = first;
    for (const event of ["input", "change"]) control.dispatchEvent(new Event(event));
}"""
CLOSE = """() => {
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    document.querySelectorAll(".similar-images details[open]").forEach((details) => (details.open = false));
    const added = (box) => window.controls.every(([control]) => control !== box);
    [...document.querySelectorAll(".similar-images input:checked")].filter(added).forEach((box) => box.click());
    document.querySelectorAll(".similar-images .jupyter-button.mod-active").forEach((toggle) => toggle.click());
    document.activeElement.blur();
}"""


def remember_first_state(page: Page) -> None:
    """Note how the settings of a panel that was just opened stand."""
    page.evaluate(REMEMBER)


def begin_anew(page: Page) -> None:
    """Bring the panel back to its first settings, whatever a test left; what it shows stays."""
    page.set_viewport_size(SIZE)  # type: ignore[arg-type]  # a dict will do
    page.mouse.move(0, 0)
    page.evaluate(CLOSE)
    for at in page.evaluate(CHANGED):
        with search(page) if asked(page) else nullcontext():
            page.evaluate(RESTORE, at)


def status(page: Page) -> Locator:
    return page.locator(".similar-images .si-status")


@contextmanager
def search(page: Page) -> Iterator[None]:
    """Wait for the result of a search that begins inside: a new status line with its milliseconds, and all pictures."""
    status(page).evaluate("line => line.dataset.before = 'yes'")
    yield
    expect(page.locator(".si-status:not([data-before])")).to_contain_text("ms to search")
    expect(page.locator(".si-tile img:not([src])")).to_have_count(0)
    page.evaluate("() => new Promise(requestIdleCallback)")  # widgets don't wait for each other with their messages


def press(page: Page, name: str, how: str = "mouse") -> None:
    """Press a button whose name ends so (icons stand before it), by mouse or by keyboard."""
    button = page.locator(".similar-images").get_by_role(
        "button", name=re.compile(re.escape(name).replace("/", r"\/") + "$")
    )
    if how == "mouse":
        button.click()
    else:
        button.focus()
        page.keyboard.press("Enter")


def pick_random(page: Page) -> list[str]:
    with search(page):
        press(page, "Random photo")
    return names(page)


def ask_for(page: Page, name: str, data: bytes) -> None:
    """Upload a photo."""
    with search(page):
        upload(page, name, data)


def alert(page: Page) -> Locator:
    return page.locator(".similar-images").get_by_role("alert")


def names(page: Page) -> list[str]:
    """Return the names that the tiles show, which are those that they read out."""
    shown = page.locator(".si-tile .si-name").evaluate_all("all => all.map((each) => each.textContent)")
    assert shown == page.locator(".si-tile img").evaluate_all("all => all.map((each) => each.alt)")
    return list(shown)


def expected(gallery: Gallery, query: Any, k: int = 12, **settings: Any) -> list[str]:
    """Return what a search finds with the panel's first settings, or others."""
    return names_of(gallery.search(query, k, **{"focus": 0.1, "expand": 3, **settings}))


def names_of(hits: list[Hit]) -> list[str]:
    return [hit.name for hit in hits]


def asked(page: Page) -> list[str]:
    return list(page.locator(".si-asked").evaluate_all("all => all.map((each) => each.textContent)"))


def frame(page: Page) -> Box:
    """Return the part of the photo that the page shows as marked."""
    return tuple(
        page.locator(".si-frame").evaluate(
            """(frame) => {
                const [inner, outer] = [frame, frame.parentElement].map((each) => each.getBoundingClientRect());
                return [(inner.left - outer.left) / outer.width, (inner.top - outer.top) / outer.height,
                        (inner.right - outer.left) / outer.width, (inner.bottom - outer.top) / outer.height];
            }"""
        )
    )


def tile(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=f"Search from {name}", exact=True)


def choose(page: Page, *files: Path | FilePayload) -> None:
    with page.expect_file_chooser() as chooser:
        press(page, "Upload a photo")
    chooser.value.set_files(list(files))


def upload(page: Page, name: str, content: bytes) -> None:
    choose(page, {"name": name, "mimeType": "image/jpeg", "buffer": content})
