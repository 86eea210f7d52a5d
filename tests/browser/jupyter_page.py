"""A real notebook server and a real Chromium page on it, for tests and for the README's screenshot."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
NOTEBOOK = "Similar image.ipynb"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
START_SECONDS = 60
PATIENCE_MS = 30_000
SETTLE_MS = 3_000


@contextmanager
def notebook_server(folder: Path, index: Path) -> Iterator[str]:
    """Serve a copy of the notebook, made in `folder`, that opens `index`; yield the server's address."""
    shutil.copy(ROOT / NOTEBOOK, folder)
    environment = os.environ | {"SIMILAR_IMAGES_INDEX": str(index), "PYTHONPATH": str(ROOT), "JUPYTER_TOKEN": "token"}
    options = ["--no-browser", "--allow-root", "--port=0", "--ServerApp.port_retries=0", "--LabApp.news_url=None"]
    command = [sys.executable, "-m", "jupyter", "lab", *options]
    log = folder / "server.log"
    with open(log, "w") as output:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _address(log)
    finally:
        server.terminate()
        server.wait(20)


def _address(log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+", log.read_text()):
            urllib.request.urlopen(f"{found.group()}/api?token=token", timeout=START_SECONDS).close()
            return found.group()
        time.sleep(0.2)
    raise RuntimeError(f"the notebook server did not start:\n{log.read_text()}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def open_notebook(page: Page, server: str, application: str) -> None:
    """Open the notebook in Notebook 7 ("notebooks") or JupyterLab ("lab/tree") and run all of its cells."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{server}/{application}/{quote(NOTEBOOK)}?token=token")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(state="attached")
    page.wait_for_timeout(SETTLE_MS)  # a page that is still connecting to its kernel loses cells that it runs
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".similar-images").wait_for()
