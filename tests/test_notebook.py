import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import ROOT, write_vectors
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = ROOT / "Similar image.ipynb"


def execute(index: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    monkeypatch.setenv("SIMILAR_IMAGES_INDEX", str(index))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def test_notebook_stores_no_outputs_and_defines_no_functions() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    nbformat.validate(nbformat.from_dict(notebook))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            assert "def " not in "".join(cell["source"]) and len(cell["source"]) <= 6
    assert "widgets" not in notebook["metadata"]


def test_notebook_begins_with_title_and_panel_and_has_no_picture() -> None:
    title, panel, *others = json.loads(NOTEBOOK.read_text())["cells"]
    assert title["cell_type"] == "markdown" and title["source"][0] == "# Similar images\n"
    assert panel["cell_type"] == "code" and panel["source"][-1] == "SearchPanel(gallery)"
    assert "![" not in str([title, *others])


def test_notebook_runs_from_top_to_bottom(index_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = execute(index_file, tmp_path, monkeypatch)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "75 photos" in str(outputs) and "1  0.000  balloons/00.jpg" in str(outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)


def test_notebook_without_gallery_says_which_command_builds_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CellExecutionError) as caught:
        execute(tmp_path / "missing.faiss.index", tmp_path, monkeypatch)
    assert "build_search_db.py" in str(caught.value) and "Traceback (most recent" not in str(caught.value)


def test_notebook_with_vectors_of_another_index_says_so(
    index_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(index_file.parent, tmp_path / "copy")
    vectors = tmp_path / "copy" / "photos.saved_predictions.npy"
    write_vectors(vectors, np.ones((75, 1280), np.float32))
    with pytest.raises(CellExecutionError) as caught:
        execute(tmp_path / "copy" / index_file.name, tmp_path, monkeypatch)
    assert "built from other vectors" in str(caught.value) and "Traceback (most recent" not in str(caught.value)
