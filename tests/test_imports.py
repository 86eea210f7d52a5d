"""Who may import whom, and how quickly."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "similar_images"
MAY_IMPORT = {
    "_files": set(),
    "_script": set(),
    "cards": {"_files"},
    "photo_errors": set(),
    "boxes": set(),
    "colours": set(),
    "decoding_cost": {"photo_errors"},
    "photo_files": {"boxes", "decoding_cost", "photo_errors"},
    "download": {"photo_errors"},
    "images": {"colours", "download", "photo_errors", "photo_files"},
    "pca": set(),
    "measure": {"vectors"},
    "neighbours": set(),
    "evaluation": set(),
    "exact_search": {"index", "measure", "vectors"},
    "samples": set(),
    "locks": set(),
    "weights": {"locks"},
    "file_list": {"_files"},
    "vectors": {"_files", "cards", "file_list"},
    "unfinished_vectors": {"_files", "cards", "file_list", "vectors"},
    "efficientnet_lite0": {"weights"},
    "encoders": {"_files", "cards", "efficientnet_lite0", "images", "locks", "weights"},
    "conversion": {"_files", "cards", "encoders", "images", "locks", "openvino_runtime", "weights"},
    "openvino_runtime": {"encoders", "images", "locks", "weights"},
    "tensorflow_runtime": {"encoders", "images", "locks", "weights"},
    "runtimes": {"conversion", "encoders", "images", "openvino_runtime", "tensorflow_runtime", "weights"},
    "extraction": {"_files", "cards", "encoders", "images", "runtimes", "unfinished_vectors", "vectors"},
    "index": {"_files", "cards", "measure", "vectors"},
    "index_building": {"_files", "cards", "exact_search", "index", "measure", "pca", "vectors"},
    "near_duplicates": set(),
    "filters": set(),
    "photo_region": {"images"},
    "gallery": {
        "cards",
        "conversion",
        "encoders",
        "images",
        "index",
        "locks",
        "measure",
        "near_duplicates",
        "neighbours",
        "photo_region",
        "runtimes",
        "vectors",
    },
    "labels": {"filters"},
    "index_quality": {"cards", "exact_search", "gallery", "measure"},
    "answer_quality": {"evaluation", "gallery", "labels", "measure", "vectors"},
    "colour_histograms": {"images", "vectors"},
    "robustness": {"answer_quality", "gallery", "images", "photo_region"},
    "duplicate_groups": {"gallery"},
    "encoder_comparison": {
        "answer_quality",
        "conversion",
        "encoders",
        "extraction",
        "gallery",
        "labels",
        "measure",
        "runtimes",
        "vectors",
    },
    "evaluation_plots": {
        "answer_quality",
        "encoder_comparison",
        "evaluation",
        "images",
        "index_quality",
        "robustness",
    },
    "evaluation_report": {"_files", "evaluation", "images"},
    "evaluation_parts": {
        "answer_quality",
        "colour_histograms",
        "contact_sheet",
        "duplicate_groups",
        "encoder_comparison",
        "evaluation_plots",
        "evaluation_report",
        "gallery",
        "index_quality",
        "labels",
        "measure",
        "robustness",
    },
    "feedback": {"gallery", "vectors"},
    "question": {"feedback", "gallery", "images"},
    "explanation": {"encoders", "images", "measure", "openvino_runtime", "runtimes", "weights"},
    "gallery_map": {"_files", "cards", "gallery", "pca", "vectors"},
    "contact_sheet": {"images"},
    "export": {"gallery", "images", "question"},
    "servers": {"_files"},
    "app": {"app"},
    "widgets": {
        "contact_sheet",
        "download",
        "exact_search",
        "explanation",
        "export",
        "filters",
        "gallery",
        "gallery_map",
        "images",
        "measure",
        "question",
        "widgets",
    },
}
ONLY_IN = {
    "tensorflow": {"weights", "tensorflow_runtime"},
    "keras": {"weights"},
    "openvino": {"openvino_runtime"},
    "nncf": {"conversion"},
    "faiss": {"index", "index_building"},
    "httpx": {"download"},
    "httpcore": {"download"},
    "urllib": set(),
    "http": {"download"},
    "requests": set(),
    "ipywidgets": {"widgets"},
    "anywidget": {"widgets"},
    "jscatter": {"widgets"},
    "voila": {"app"},
    "umap": {"gallery_map"},
    "matplotlib": {"evaluation_plots"},
    "markdown_it": {"evaluation_report"},
    "click": set(),
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_module_imports_only_what_it_may(file: Path) -> None:
    module = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = {name.split(".")[1] for name in imported(file) if name.startswith("similar_images.")}
    assert ours <= MAY_IMPORT[module]
    theirs = {name.split(".")[0] for name in imported(file)}
    assert not [name for name, places in ONLY_IN.items() if name in theirs and module not in places]


def test_importing_gallery_and_panel_loads_no_tensorflow() -> None:
    ours = "import sys, similar_images.widgets, similar_images.extraction, similar_images.index_building"
    code = f"{ours}; print({{'tensorflow', 'keras', 'openvino', 'faiss', 'jscatter'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
