"""The panel as tests see and handle it on a page."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import FilePayload, Locator, Page, expect

from similar_images.gallery import Hit


def status(page: Page) -> Locator:
    return page.locator(".similar-images .si-status")


@contextmanager
def search(page: Page) -> Iterator[None]:
    """Wait for the result of a search that begins inside: a new status line with its milliseconds, and all pictures."""
    status(page).evaluate("line => line.dataset.before = 'yes'")
    yield
    expect(page.locator(".si-status:not([data-before])")).to_contain_text("ms to search")
    expect(page.locator(".si-tile img:not([src])")).to_have_count(0)


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


def names_of(hits: list[Hit]) -> list[str]:
    return [hit.name for hit in hits]


def asked(page: Page) -> list[str]:
    return list(page.locator(".si-asked").evaluate_all("all => all.map((each) => each.textContent)"))


def tile(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=f"Search from {name}", exact=True)


def choose(page: Page, *files: Path | FilePayload) -> None:
    with page.expect_file_chooser() as chooser:
        press(page, "Upload a photo")
    chooser.value.set_files(list(files))


def upload(page: Page, name: str, content: bytes) -> None:
    choose(page, {"name": name, "mimeType": "image/jpeg", "buffer": content})
