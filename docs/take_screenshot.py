#!/usr/bin/env python
"""Take docs/notebook.jpg, the picture in the README: the demo's gallery in a real notebook in a real browser."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser")]

from jupyter_page import chromium, notebook_server, open_notebook  # noqa: E402 - the path comes first

QUERY = "demo/samples/sailboat/03.jpg"


def main() -> None:
    """Run the notebook, search for a sample, and keep what the panel shows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        notebook_server(Path(folder), ROOT / "demo" / "samples.faiss.index") as server,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1180, "height": 1000})
        open_notebook(page, server, "notebooks")
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a photo").click()
        chooser.value.set_files(ROOT / QUERY)
        page.get_by_text("ms to search").wait_for()
        picture = Image.open(io.BytesIO(page.locator(".similar-images").screenshot()))
        picture.convert("RGB").save(ROOT / "docs" / "notebook.jpg", quality=85)


if __name__ == "__main__":
    main()
