"""Real servers of the notebook and the app, and a real Chromium page on them, for tests and the README's pictures."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
NOTEBOOK = "Similar image.ipynb"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera that shows a pattern
START_SECONDS = 120
PATIENCE_MS = 60_000  # a first photo loads the encoder, and a machine may be slow
SETTLE_MS = 3_000


@contextmanager
def notebook_server(folder: Path, index: Path) -> Iterator[str]:
    """Serve a copy of the notebook, made in `folder`, that opens `index`; yield the server's address.

    The settings of whoever runs this are left aside, and so is the question whether JupyterLab may show its news, which
    lies over the page.
    """
    settings = folder / ".jupyter"
    (settings / "labconfig").mkdir(parents=True)
    disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    command += ["--port=0", "--ServerApp.port_retries=0"]
    with _server(command, folder, index, JUPYTER_TOKEN="token", JUPYTER_CONFIG_DIR=str(settings)) as address:
        yield address


@contextmanager
def app_server(folder: Path, index: Path, *options: str) -> Iterator[str]:
    """Serve a copy of the notebook, made in `folder`, as `make app` does; yield the app's address."""
    code = f"import run_demo, pathlib; run_demo.serve_app(pathlib.Path({str(index)!r}))"
    port = f"--port={_free_port()}"
    with _server(
        [sys.executable, "-c", code], folder, index, VOILA_OPTIONS=" ".join(["--no-browser", port, *options])
    ) as it:
        yield it


@contextmanager
def _server(command: list[str], folder: Path, index: Path, **environment: str) -> Iterator[str]:
    notebook = (ROOT / NOTEBOOK).read_text(encoding="utf-8")
    allowed = notebook.replace("SearchPanel(gallery, RESULTS)", "SearchPanel(gallery, RESULTS, private_addresses=True)")
    assert allowed != notebook
    (folder / NOTEBOOK).write_text(allowed, encoding="utf-8")
    settings = os.environ | {"SIMILAR_IMAGES_INDEX": str(index), "PYTHONPATH": str(ROOT)} | environment
    log = folder / "server.log"
    with open(log, "w") as output:
        server = subprocess.Popen(command, cwd=folder, env=settings, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _address(log)
    finally:
        server.terminate()
        server.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _address(log: Path) -> str:
    """Wait until the server has written its address, and listens there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for host, port in re.findall(r"http://(127\.0\.0\.1|localhost):(\d+)", log.read_text()):
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return f"http://{host}:{port}"
        time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, whose pages are waited for patiently."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def open_panel(page: Page, server: str, application: str) -> None:
    """Open the panel in Notebook 7 ("notebooks"), JupyterLab ("lab/tree") or the app ("app")."""
    page.set_default_timeout(PATIENCE_MS)
    if application == "app":
        page.goto(server)
    else:
        page.goto(f"{server}/{application}/{quote(NOTEBOOK)}?token=token")
        _run_all_cells(page)
    page.locator(".similar-images .si-zone").wait_for()


def _run_all_cells(page: Page) -> None:
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(state="attached")
    page.wait_for_timeout(SETTLE_MS)  # a page that is still connecting to its kernel loses cells that it runs
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
