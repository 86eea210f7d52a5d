"""Many searches in a row: neither the kernel's memory nor the page grows."""

from pathlib import Path

import psutil
from jupyter_page import notebook_server, open_panel
from panel_page import pick_random
from playwright.sync_api import Browser

WARM, SEARCHES = 50, 200


def kernel_of(folder: Path) -> psutil.Process:
    """Return the process of the kernel that runs in a folder."""
    kernels = [
        process
        for process in psutil.Process().children(recursive=True)
        if "ipykernel_launcher" in " ".join(process.cmdline()) and Path(process.cwd()) == folder
    ]
    assert len(kernels) == 1
    return kernels[0]


def test_200_searches_leave_kernel_and_page_as_they_were(browser: Browser, index_file: Path, tmp_path: Path) -> None:
    with notebook_server(tmp_path, index_file) as server:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        open_panel(page, server, "notebooks")
        kernel = kernel_of(tmp_path)
        sizes = []
        for count in range(1, SEARCHES + 1):
            pick_random(page)
            if count in (WARM, SEARCHES):
                nodes = page.locator(".similar-images *").count()
                models = page.locator(".similar-images .jupyter-widgets").count()
                sizes.append((kernel.memory_info().rss / 1e6, nodes, models))
        print(f"\nafter {WARM} and {SEARCHES} searches: MB of the kernel, elements, widgets: {sizes}")
        (before, nodes, models), (after, nodes_after, models_after) = sizes
        assert after < before + 20
        assert nodes_after <= nodes + 20 and models_after == models
