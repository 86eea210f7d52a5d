"""What a browser test leaves behind when it fails."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from jupyter_page import ROOT, said
from playwright.sync_api import Error

FAILURES = ROOT / "browser_failures"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep what the open pages show and say, and tell where."""
    report = yield
    if report.failed and said:
        folder = FAILURES / re.sub(r"\W+", "_", item.nodeid.split("::")[-1]).strip("_")
        report.sections.append(("Pages", f"kept in {folder}: {', '.join(keep_pages(folder))}"))
    return report


def keep_pages(folder: Path) -> list[str]:
    """Write a picture and the console's lines of each page that is open; return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (page, lines) in enumerate(said.items(), 1):
        (folder / f"{number}.log").write_text("\n".join([page.url, *lines]))
        with suppress(Error):  # its browser is gone
            page.screenshot(path=folder / f"{number}.png", timeout=5_000)
    return sorted(path.name for path in folder.iterdir())
