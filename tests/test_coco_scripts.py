"""The published five steps on a COCO-like archive from a local server, and what can go wrong on the way."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run
from http_server import serve

DATASET, VECTORS = str(ROOT / "get_ms_coco_dataset.sh"), str(ROOT / "get_ms_coco_vectors.sh")
LIST = "ms_coco_file_list.txt"


@pytest.fixture
def served(tmp_path: Path, photos: Path) -> Path:
    """A folder with val2014.zip, 75 photos in COCO's shape and names, and with the vectors' archive."""
    folder = tmp_path / "served"
    folder.mkdir()
    with zipfile.ZipFile(folder / "val2014.zip", "w") as archive:
        for number, photo in enumerate(sorted(photos.rglob("*.jpg")), 42):
            archive.write(photo, f"val2014/COCO_val2014_{number:012d}.jpg")
    rows = io.BytesIO()
    np.save(rows, np.random.default_rng(0).random((75, 4096), np.float32))
    with zipfile.ZipFile(folder / "vectors.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{LIST}.saved_predictions.npy", rows.getvalue())
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_published_steps_end_in_a_notebook_that_searches(served: Path, work: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    with serve(served) as (address, _):
        settings = {"MS_COCO_URL": f"{address}/val2014.zip", "MS_COCO_VECTORS_URL": f"{address}/vectors.zip"}
        assert run(DATASET, cwd=work, **settings, MS_COCO_COUNT="75").returncode == 0
        assert run(VECTORS, cwd=work, **settings).returncode == 0
    names = (work / LIST).read_text().splitlines()
    assert len(names) == 75 and names == sorted(names) and names[0] == "COCO_val2014_000000000042.jpg"
    assert sorted(entry.name for entry in work.iterdir()) == ["ms_coco", LIST, f"{LIST}.saved_predictions.npy"]
    done = run("build_search_db.py", "-i", f"{LIST}.saved_predictions.npy", "-d", "4096", cwd=work)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(ROOT / "Similar image.ipynb", as_version=4)
    os.symlink(ROOT / "similar_images", work / "similar_images")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(work)}}).execute()
    assert "1  0.000  COCO_val2014_000000000042.jpg" in str(notebook)
    assert "vgg16 fc2" in str(notebook)


@pytest.mark.usefixtures("vgg16")
def test_own_extraction_of_the_published_list(served: Path, work: Path) -> None:
    with serve(served) as (address, _):
        assert run(DATASET, cwd=work, MS_COCO_URL=f"{address}/val2014.zip", MS_COCO_COUNT="75").returncode == 0
    done = run("extract_image_vectors.py", "-l", LIST, "--weights", "none", "-b", "25", cwd=work)
    assert done.returncode == 0, done.stderr
    assert np.load(work / f"{LIST}.saved_predictions.npy").shape == (75, 4096)


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_download_goes_on_where_it_was_cut(served: Path, work: Path, tmp_path: Path, client: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in (client, *"sh unzip mkdir find sed sort wc tr mv rm basename dirname df awk sleep cat pwd".split()):
        if not (found := shutil.which(tool)):
            pytest.fail(f"{tool} is needed for this test: install it")
        (tools / tool).symlink_to(found)
    with serve(served) as (address, asked):
        settings = {"MS_COCO_COUNT": "75", "PATH": str(tools), "RETRY_SECONDS": "0"}
        done = run(DATASET, cwd=work, MS_COCO_URL=f"{address}/cut/val2014.zip", **settings)
    assert done.returncode == 0, done.stderr
    assert asked[0][1] in (None, "bytes=0-") and asked[1][1] not in (None, "bytes=0-")
    assert len((work / LIST).read_text().splitlines()) == 75


def test_scripts_run_again_do_nothing(served: Path, work: Path) -> None:
    with serve(served) as (address, asked):
        for _ in range(2):
            assert run(DATASET, cwd=work, MS_COCO_URL=f"{address}/val2014.zip", MS_COCO_COUNT="75").returncode == 0
            assert run(VECTORS, cwd=work, MS_COCO_VECTORS_URL=f"{address}/vectors.zip").returncode == 0
    assert len(asked) == 2


def test_damaged_leftover_is_fetched_anew(served: Path, work: Path) -> None:
    (work / "ms_coco").mkdir()
    size = (served / "val2014.zip").stat().st_size
    (work / "ms_coco" / "val2014.zip.part").write_bytes(bytes(size))
    with serve(served) as (address, _):
        settings = {"MS_COCO_URL": f"{address}/val2014.zip", "MS_COCO_COUNT": "75", "RETRY_SECONDS": "0"}
        done = run(DATASET, cwd=work, **settings)
    assert done.returncode == 0, done.stderr


def test_what_goes_wrong_is_said_and_leaves_no_result(served: Path, work: Path) -> None:
    (served / "text.zip").write_text("<html>not found</html>")
    with serve(served) as (address, _):
        for script, variable, name, sentence in (
            (DATASET, "MS_COCO_URL", "missing.zip", "could not be downloaded"),
            (DATASET, "MS_COCO_URL", "text.zip", "is no whole zip archive"),
            (DATASET, "MS_COCO_URL", "val2014.zip", "holds 75 photos, not 76"),
            (VECTORS, "MS_COCO_VECTORS_URL", "val2014.zip", "holds no ms_coco_file_list.txt.saved_predictions.npy"),
        ):
            settings = {variable: f"{address}/{name}", "MS_COCO_COUNT": "76", "RETRY_SECONDS": "0"}
            done = run(script, cwd=work, **settings)
            assert done.returncode == 1 and sentence in done.stderr, (name, done.stderr)
            shutil.rmtree(work / "ms_coco", ignore_errors=True)
    assert not (work / LIST).exists() and not (work / f"{LIST}.saved_predictions.npy").exists()


def test_wrong_arguments_are_a_sentence(work: Path) -> None:
    for script, *arguments in ((DATASET, "--split", "test2015"), (DATASET, "--split"), (DATASET, "x"), (VECTORS, "x")):
        done = run(script, *arguments, cwd=work)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert run(DATASET, "--help", cwd=work).stdout.startswith("Fetch the photos")
