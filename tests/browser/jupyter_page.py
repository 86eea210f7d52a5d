"""Real servers of the notebook and the app, and a real Chromium page on them, for tests and the README's pictures."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
NOTEBOOK = "Similar image.ipynb"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera that shows a pattern
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
PATIENCE_MS = 60_000  # a first photo loads the encoder, and a machine may be slow
CONNECTED = """(name) => {
    const context = window.jupyterapp?.shell.currentWidget?.context;
    const kernel = context?.path === name && context.sessionContext.session?.kernel;
    return kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""

said: dict[Page, list[str]] = {}  # by the pages that are open, what their consoles show
asked_elsewhere: list[str] = []  # addresses outside of this machine that pages asked for


@contextmanager
def notebook_server(folder: Path, index: Path) -> Iterator[str]:
    """Serve the notebook on `index` as `make demo` does, from a copy in `folder`; yield the server's address.

    The settings of whoever runs this are left aside, and so is the question whether JupyterLab may show its news, which
    lies over the page; tests are let in to the page's own objects.
    """
    settings = folder / ".jupyter"
    (settings / "labconfig").mkdir(parents=True)
    disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
    exposed = {name: {"expose_app_in_browser": True} for name in ("JupyterNotebookApp", "LabApp")}
    (settings / "jupyter_server_config.json").write_text(json.dumps(exposed))
    jupyter = {"CONFIG_DIR": str(settings), "TOKEN": "token", "PORT": "0", "PORT_RETRIES": "0"}
    with server("open_notebook", folder, index, **{f"JUPYTER_{name}": value for name, value in jupyter.items()}) as it:
        yield it


@contextmanager
def app_server(folder: Path, index: Path, *options: str) -> Iterator[str]:
    """Serve the notebook as `make app` does, with Voila's options; yield the app's address."""
    with server("serve_app", folder, index, VOILA_OPTIONS=" ".join([f"--port={free_port()}", *options])) as it:
        yield it


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(function: str, folder: Path, index: Path, **environment: str) -> Iterator[str]:
    """Run a function of run_demo.py, which serves `index`, until the block ends; yield the address that it tells.

    It must connect to nobody outside of this machine, and opens no browser. The notebook is one beside a photo, whose
    panel may fetch from this machine.
    """
    watched, connections = Path(__file__).parent / "watched", folder / "connections.log"
    arguments = f"pathlib.Path({str(index)!r}), pathlib.Path({str(folder)!r})"
    original = f"pathlib.Path({str(original_notebook(folder))!r})"
    code = f"import pathlib, run_demo; run_demo.NOTEBOOK = {original}; run_demo.{function}({arguments})"
    settings = {name: value for name, value in os.environ.items() if name != "CI"} | environment
    settings |= {"BROWSER": "true", "CONNECTIONS": str(connections), "PYTHONPATH": str(watched)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=folder, env=settings, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        told = re.search(r"Open (http://[^/]+)", running.stdout.readline())
        try:
            assert told, f"the server did not start:\n{(folder / 'server.log').read_text()}"
            yield told[1]
        finally:
            running.terminate()
    assert not connections.exists(), connections.read_text()


def original_notebook(folder: Path) -> Path:
    """Return the notebook that servers of a folder are begun with, which is made the first time."""
    notebook = folder / "project" / NOTEBOOK
    if not notebook.exists():
        content = (ROOT / NOTEBOOK).read_text(encoding="utf-8")
        allowed = content.replace("SearchPanel(gallery)", "SearchPanel(gallery, private_addresses=True)")
        assert allowed != content
        notebook.parent.mkdir(parents=True)
        notebook.write_text(allowed, encoding="utf-8")
        notebook.with_name("photo.jpg").write_bytes(b"a photo")
    return notebook


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, whose pages are waited for patiently and ask nobody outside of this machine."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        browser.on("context", _listen)
        asked_elsewhere.clear()
        yield browser
        browser.close()
    assert not asked_elsewhere, asked_elsewhere


def _listen(context: BrowserContext) -> None:
    context.on("page", _listen_to)
    context.on("request", lambda request: None if _is_here(request.url) else asked_elsewhere.append(request.url))


def _listen_to(page: Page) -> None:
    lines = said[page] = []
    page.on("console", lambda message: lines.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: lines.append(f"error that nothing caught: {error}"))
    page.on("close", lambda _: said.pop(page))


def _is_here(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("data", "blob", "file", "chrome-error") or parts.hostname in ("localhost", "127.0.0.1")


def open_panel(page: Page, server: str, application: str) -> None:
    """Open the panel in Notebook 7 ("notebooks"), JupyterLab ("lab/tree") or the app ("app")."""
    page.set_default_timeout(PATIENCE_MS)
    if application == "app":
        page.goto(server)
    else:
        open_notebook(page, server, application)
        run_all_cells(page)
    page.locator(".similar-images .si-zone").wait_for()


def open_notebook(page: Page, server: str, application: str, name: str = NOTEBOOK) -> None:
    """Open a notebook, in JupyterLab without those that were open before.

    Its kernel is waited for: until it is there, cells that are run get lost.
    """
    page.goto(f"{server}/{application}/{quote(name)}?token=token&reset")
    page.wait_for_function(CONNECTED, arg=name)


def run_all_cells(page: Page) -> None:
    """Do what the last line of `make demo` says."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
