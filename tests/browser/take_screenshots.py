#!/usr/bin/env python
"""Take the README's pictures: the demo's gallery in the notebook, and as an app in the dark on a phone."""

import io
import tempfile
from pathlib import Path

from jupyter_page import app_server, chromium, notebook_server, open_panel
from panel_page import choose, search
from PIL import Image
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "demo" / "samples.faiss.index"
QUERY = ROOT / "demo" / "samples" / "sailboat" / "03.jpg"


def main() -> None:
    """Take all pictures."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        with notebook_server(Path(folder) / "notebook", INDEX) as server:
            page = browser.new_page(viewport={"width": 1180, "height": 1600})
            open_panel(page, server, "notebooks")
            picture_of_panel(page)
        with app_server(Path(folder) / "app", INDEX, "--theme=dark") as server:
            page = browser.new_page(viewport={"width": 400, "height": 860}, device_scale_factor=1.5, has_touch=True)
            open_panel(page, server, "app")
            picture_of_phone(page)


def picture_of_panel(page: Page) -> None:
    """Search for a sample and part of it, mark two hits, open the map."""
    upload_sample(page)
    for sign, at in (("More", 2), ("Less", 7)):
        tile = page.locator(".si-tile").nth(at)
        tile.hover()
        with search(page):
            tile.get_by_role("button", name=f"{sign} like").click()
    page.get_by_role("button", name="Map").click()
    page.locator(".similar-images canvas").first.wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(2500)  # points are drawn on a canvas, which says nothing of it
    save(page.locator(".similar-images").screenshot(), "notebook.jpg")


def picture_of_phone(page: Page) -> None:
    """Search for a sample, and look at what is found."""
    upload_sample(page)
    page.locator(".si-question").evaluate("(part) => part.scrollIntoView({ block: 'start' })")
    save(page.screenshot(), "phone.jpg")


def upload_sample(page: Page) -> None:
    """Upload a drawn sailboat and wait for what is found, with its pictures."""
    with search(page):
        choose(page, QUERY)


def save(png: bytes, name: str) -> None:
    """Write a picture as a small JPEG."""
    Image.open(io.BytesIO(png)).convert("RGB").save(ROOT / "docs" / name, quality=82)


if __name__ == "__main__":
    main()
