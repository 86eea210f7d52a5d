"""Who may import whom, and how quickly."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "similar_images"
ROOT_MODULES = {"files", "cards", "locks", "progress", "script"}
MAY_IMPORT = {
    "photos": set(),
    "encoding": {"photos"},
    "store": {"photos"},
    "extraction": {"photos", "encoding", "store"},
    "search": {"photos", "encoding", "store"},
    "evaluation": {"photos", "encoding", "store", "extraction", "search"},
    "widgets": {"photos", "encoding", "store", "search"},
    "app": set(),
}
ONLY_IN = {
    "tensorflow": {"encoding/weights", "encoding/tensorflow_runtime"},
    "keras": {"encoding/weights"},
    "openvino": {"encoding/openvino_runtime"},
    "nncf": {"encoding/conversion"},
    "faiss": {"store/faiss_index", "store/index_building"},
    "httpx": {"photos/download"},
    "httpcore": {"photos/download"},
    "urllib": set(),
    "http": {"photos/download"},
    "requests": set(),
    "ipywidgets": {"widgets"},
    "anywidget": {"widgets"},
    "jscatter": {"widgets"},
    "voila": {"app"},
    "umap": {"search/gallery_map"},
    "matplotlib": {"evaluation/plots"},
    "markdown_it": {"evaluation/report"},
    "click": set(),
    "tqdm": {"progress"},
}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


FILES = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]
MODULES = {str(file.relative_to(PACKAGE)).removesuffix(".py"): file for file in FILES}


def room_of(module: str) -> str:
    """Return the room of a module, itself for one outside of all rooms."""
    return module.partition("/")[0]


def our_imports(file: Path) -> set[str]:
    return {
        name.removeprefix("similar_images.").replace(".", "/")
        for name in imported(file)
        if name.startswith("similar_images.")
    }


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_its_room_may(module: str) -> None:
    room = room_of(module)
    ours = {room_of(name) for name in our_imports(MODULES[module])}
    assert ours <= ROOT_MODULES | MAY_IMPORT.get(room, set()) | {room}
    theirs = {name.split(".")[0] for name in imported(MODULES[module])}
    assert not [name for name, places in ONLY_IN.items() if name in theirs and not {room, module} & places]


REACHES_THROUGH = re.compile(r"[gG]allery\.(index|vectors|card|stored|_\w+)\b|\.store\._")


def test_nothing_outside_of_the_store_reaches_through_it() -> None:
    files = [file for module, file in MODULES.items() if room_of(module) not in ("store", "extraction")]
    files += [*ROOT.glob("*.py"), *ROOT.glob("*.ipynb")]
    files.remove(MODULES["search/gallery"])
    found = [(file.name, match[0]) for file in files for match in REACHES_THROUGH.finditer(file.read_text())]
    assert found == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: our_imports(file) & MODULES.keys() for module, file in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_importing_gallery_and_panel_loads_no_tensorflow() -> None:
    ours = (
        "import sys, similar_images.widgets, similar_images.extraction.extraction, similar_images.store.index_building"
    )
    code = f"{ours}; print({{'tensorflow', 'keras', 'openvino', 'faiss', 'jscatter'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
