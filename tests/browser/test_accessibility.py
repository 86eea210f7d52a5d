"""axe-core's rules for accessibility, on the app with everything opened."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from jupyter_page import app_server, open_panel
from panel_page import pick_random, press
from playwright.sync_api import Browser, Page, expect


@pytest.fixture(scope="module")
def app(index_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with app_server(tmp_path_factory.mktemp("app"), index_file) as address:
        yield address


def serious(page: Page) -> list[str]:
    """Return what axe finds in the panel that keeps people out."""
    found = Axe().run(page, context=".similar-images").response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in found
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panel_has_no_serious_violation(browser: Browser, app: str, theme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    open_panel(page, f"{app}/?theme={theme}", "app")
    assert serious(page) == []
    found = pick_random(page)
    page.get_by_text("Search settings").click()
    press(page, "Python")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="More like").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="More like")).to_be_visible()
    press(page, "Map")
    expect(page.locator(".similar-images canvas").first).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name=f"Look closer at {found[1]}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert serious(page) == []
    page.close()
