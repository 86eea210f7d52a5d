import json
import shutil
from pathlib import Path

import pytest
from conftest import run
from PIL import Image


@pytest.fixture
def index(index_file: Path, tmp_path: Path) -> Path:
    shutil.copytree(index_file.parent, tmp_path / "copy")
    return tmp_path / "copy" / index_file.name


def test_report_has_every_part(index: Path, tmp_path: Path, cache: Path) -> None:
    encoders = ["--encoder", "mobilenet_v2=none"]
    done = run("evaluate_search.py", index, "-o", tmp_path / "report", "--k", 2, *encoders, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report" / "report.md").read_text()
    for heading in ("## Index", "## Answers", "## Encoders", "## Robustness", "## Near-duplicates"):
        assert heading in text and heading in done.stdout
    figures = json.loads((tmp_path / "report" / "report.json").read_text())
    assert figures["index"][0]["recall"]["10"] == 1 and len(figures["labels"]) == 25
    low, mean, high = (figures["answers"]["precision@2"][at] for at in (1, 0, 2))
    assert 0 <= low <= mean <= high <= 1
    for name in ("index", "labels", "worst", "encoders", "robustness"):
        assert Image.open(tmp_path / "report" / f"{name}.png").width > 500


def test_apply_writes_the_cheapest_setting_to_the_card(index: Path, tmp_path: Path) -> None:
    vectors = index.with_name("photos.saved_predictions.npy")
    lists = index.with_name("lists.faiss.index")
    assert run("build_search_db.py", "-i", vectors, "-o", lists, "--factory", "IVF4,Flat", cwd=tmp_path).returncode == 0
    done = run("evaluate_search.py", lists, "--no-robustness", "--target_recall", 0, "--apply", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = json.loads((lists.parent / "lists.faiss.index.evaluation" / "report.json").read_text())["cheapest"]
    card = json.loads(lists.with_name("lists.faiss.index.json").read_text())
    assert (card["nprobe"], card["rerank"]) == (best["nprobe"], best["rerank"])
    assert f"From now on the index is searched with nprobe {best['nprobe']}" in done.stdout


def test_labels_that_do_not_fit_are_a_sentence(index: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("other.jpg,red\n")
    done = run("evaluate_search.py", index, "--labels", tmp_path / "labels.csv", "--no-robustness", cwd=tmp_path)
    assert done.returncode == 1 and "names none of the 75 photos" in done.stderr and "Traceback" not in done.stderr


def test_photos_that_have_moved_leave_the_rest_of_the_report(index: Path, tmp_path: Path) -> None:
    done = run("evaluate_search.py", index, "-d", tmp_path, cwd=tmp_path)
    assert done.returncode == 0 and "give --img_dir to measure robustness" in done.stderr
    assert "## Near-duplicates" in done.stdout
