from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import invoke
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def report(index_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert invoke("evaluate_search.py", index_file, "-o", folder, "--queries", 20).exit_code == 0
    for file in folder.iterdir():
        if file.name != "report.html":
            file.unlink()
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_report_alone_shows_every_picture_within_the_window(
    browser: Browser, report: Path, scheme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    asked, said = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    widths = page.eval_on_selector_all("img", "pictures => pictures.map(picture => picture.naturalWidth)")
    assert len(widths) == 4 and min(widths) > 300 and not said
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert Axe().run(page).violations_count == 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(24, 24, 24)"
    assert dark == (scheme == "dark")
    page.close()
