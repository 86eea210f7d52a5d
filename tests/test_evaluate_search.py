import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest import ODD_NAMES, invoke, run, write_vectors
from PIL import Image

from similar_images.cards import IndexCard, read_card
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

WAYS = ["search, as set", "search, as set, with 3 neighbours"]
WAYS += ["centred cosine, focus 0.1, exact", "centred cosine, exact", "raw cosine, exact"]
WAYS += ["baseline: colour histograms", "baseline: chance"]
EVALUATE = "evaluate_search.py"
MEASURING = "Measuring:"


@pytest.fixture
def index(index_file: Path, tmp_path: Path) -> Path:
    shutil.copytree(index_file.parent, tmp_path / "copy")
    return tmp_path / "copy" / index_file.name


def small_index(folder: Path, rows: np.ndarray) -> Path:
    """Return the index of vectors whose photos are missing; rows of zeros could not be read."""
    vectors = write_vectors(folder / "small.saved_predictions.npy", rows.astype(np.float32))
    build_index(open_vectors(vectors), folder / "small.faiss.index", IndexSettings())
    return folder / "small.faiss.index"


def evaluate(index: Path, *options: object) -> tuple[Result, Path]:
    return invoke(EVALUATE, index, *options), index.with_name(f"{index.name}.evaluation")


def figures_of(folder: Path) -> dict[str, object]:
    def no_number(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads((folder / "report.json").read_text(encoding="ascii"), parse_constant=no_number)


def test_report_has_every_part(index: Path, tmp_path: Path) -> None:
    encoders = ["--encoder", "mobilenet_v2=none"]
    done = run(EVALUATE, index, "-o", tmp_path / "report", "--k", 2, *encoders, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report" / "report.md").read_text()
    for heading in ("## Index", "## Answers", "## Encoders", "## Robustness", "## Near-duplicates"):
        assert heading in text and heading in done.stdout
    figures = figures_of(tmp_path / "report")
    assert figures["index"][0]["recall"]["10"] == 1 and len(figures["labels"]) == 25
    low, mean, high = (figures["answers"]["centred cosine, exact"]["precision@2"][at] for at in (1, 0, 2))
    assert 0 <= low <= mean <= high <= 1
    assert list(figures["answers"]) == WAYS and figures["answers"]["baseline: chance"]["P@1"] == pytest.approx(2 / 74)
    assert [each["d"] for each in figures["encoders"]] == [1280, 1280] and len(figures["worst"]) == 12
    assert figures["encoders"][0]["precision@2"][0] == pytest.approx(figures["encoders"][1]["precision@2"][0], abs=0.02)
    assert "(the gallery's own)" in text and "--k 2 --encoder mobilenet_v2=none" in text and "numpy" in text
    for name in ("labels.png", "worst.jpg", "encoders.png", "robustness.png"):
        assert Image.open(tmp_path / "report" / name).width > 340 and f"({name})" in text
    assert not (tmp_path / "report" / "index.png").exists(), "an exact index has one setting"


def test_apply_writes_the_cheapest_setting_to_the_card(index: Path) -> None:
    lists = index.with_name("lists.faiss.index")
    build_index(
        open_vectors(index.with_name("photos.saved_predictions.npy")), lists, IndexSettings(factory="IVF4,Flat")
    )
    done, report = evaluate(lists, "--no-robustness", "--target_recall", 0, "--apply")
    assert done.exit_code == 0, done.stderr
    best, card = figures_of(report)["cheapest"], read_card(lists, IndexCard)
    assert (card.nprobe, card.rerank) == (best["nprobe"], best["rerank"])
    assert f"From now on the index is searched with nprobe {best['nprobe']}" in done.stdout


def test_names_of_any_kind_reach_report_pictures_and_terminal(odd_index: Path, tmp_path: Path) -> None:
    for number, encoding in enumerate(("ascii", "latin-1", "utf-8")):
        settings = {"PYTHONIOENCODING": encoding, "LANG": "C", "LC_ALL": "C"}
        options = ("-o", tmp_path / str(number), "--no-robustness", "--near", 4)
        done = run(EVALUATE, odd_index, *options, cwd=tmp_path, **settings)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert "## Near-duplicates" in done.stdout
    text = (tmp_path / "2" / "report.md").read_text(encoding="utf-8")
    assert "| `caf\\xe9` |" in text and "| `猫` |" in text
    assert r"``` caf\xe9/\|a`b``.jpg ```" in text and r"`=1+1/two\nlines.jpg`" in text
    figures = figures_of(tmp_path / "2")
    assert sorted(figures["near_duplicates"]["groups"][0]) == sorted(ODD_NAMES)
    for name in ("labels.png", "duplicates.jpg"):
        assert Image.open(tmp_path / "2" / name).width > 500


@pytest.mark.parametrize("n", [2, 3, 30])
@pytest.mark.parametrize("all_equal", [False, True])
def test_small_galleries_get_a_report(tmp_path: Path, n: int, all_equal: bool) -> None:
    index = small_index(tmp_path, np.ones((n, 8)) if all_equal else np.random.default_rng(0).random((n, 8)))
    with open(tmp_path / "labels.csv", "w") as labels:
        csv.writer(labels).writerows([f"{row}.jpg", "a" if row < n - 1 else "b"] for row in range(n))
    done, report = evaluate(index, "--k", 50, "--labels", tmp_path / "labels.csv")
    assert done.exit_code == 0, done.stderr
    assert figures_of(report)["index"][0]["recall"]["1"] == 1 or all_equal
    assert ("## Answers" in done.stdout) == (n > 2) and ("## Near-duplicates" in done.stdout) == all_equal
    assert not (report / "labels.png").exists(), "one label is nothing to compare"
    assert n == 2 or Image.open(report / "worst.jpg").width == 172 * min(n, 6) + 12


@pytest.mark.parametrize("unreadable", [0, 5])
def test_one_photo_is_a_sentence(tmp_path: Path, unreadable: int) -> None:
    index = small_index(tmp_path, np.vstack([np.ones((1, 8)), np.zeros((unreadable, 8))]))
    done, report = evaluate(index)
    assert done.exit_code == 1 and "finds 1 photo: there is nothing to measure of fewer than two" in done.stderr
    assert not report.exists()


def test_labels_that_only_unreadable_photos_share_are_none(tmp_path: Path) -> None:
    index = small_index(tmp_path, np.vstack([np.random.default_rng(0).random((3, 8)), np.zeros((3, 8))]))
    (tmp_path / "labels.csv").write_text("".join(f"{row}.jpg,{row % 3}\n" for row in range(6)))
    done, report = evaluate(index, "--labels", tmp_path / "labels.csv")
    assert done.exit_code == 0 and "No two photos have a label in common" in done.stderr
    assert "answers" not in figures_of(report)


def test_many_labels_are_not_too_many_for_a_picture(tmp_path: Path) -> None:
    index = small_index(tmp_path, np.random.default_rng(0).random((500, 8)))
    (tmp_path / "labels.csv").write_text("".join(f"{row}.jpg,{row // 2}\n" for row in range(500)))
    done, report = evaluate(index, "--labels", tmp_path / "labels.csv")
    assert done.exit_code == 0, done.stderr
    assert Image.open(report / "labels.png").height < 4500 and len(figures_of(report)["labels"]) == 250


def test_mistakes_are_found_before_measuring(index: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("other.jpg,red\n")
    (tmp_path / "damaged.csv").write_bytes(b"\0\1\2")
    (tmp_path / "same.csv").write_text("car/00.jpg,red\n")
    (tmp_path / "file").touch()
    for options, sentence in (
        (("--labels", tmp_path / "other.csv"), "names none of the 75 photos"),
        (("--labels", tmp_path / "damaged.csv"), "is not a CSV file of a name and a label per line"),
        (("--labels", tmp_path / "missing.csv"), "can't be read"),
        (("--labels", tmp_path / "same.csv", "--encoder", "vgg16"), "encoders are compared by labels"),
        (("-o", tmp_path / "file" / "report"), "is no folder that you may write to"),
        (("-o", "/proc"), "is no folder that you may write to"),
    ):
        done = invoke(EVALUATE, index, *options)
        assert done.exit_code == 1 and sentence in done.stderr, (options, done.stderr)
        assert MEASURING not in done.stderr and done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "damaged.csv", "file", "other.csv", "same.csv"]


@pytest.mark.parametrize("pca", [128, None])
def test_missing_vectors_leave_the_rest_of_the_report(index: Path, pca: int | None) -> None:
    vectors, index = index.with_name("photos.saved_predictions.npy"), index.with_name("alone.faiss.index")
    build_index(open_vectors(vectors), index, IndexSettings(pca=pca))
    vectors.unlink()
    done, report = evaluate(index, "--no-robustness")
    assert done.exit_code == 1 and "Error: the report in" in done.stderr
    assert "Index: an index is compared with exact search in the vectors file, which is missing" in done.stderr
    assert "Traceback" not in done.stderr and (report / "report.md").exists()
    if pca:
        assert "centred cosine, by the index's components" in figures_of(report)["answers"]
    else:
        assert f"Answers: the vectors file {vectors} is missing: put it back" in done.stderr


def test_part_that_fails_leaves_the_others_in_the_report(index: Path) -> None:
    done, report = evaluate(index, "--encoder", "vgg17", "--no-robustness")
    assert done.exit_code == 1 and f"the report in {report} lacks Encoders, for the reason above" in done.stderr
    assert "Encoders: there is no encoder 'vgg17': choose one of" in done.stderr
    text = (report / "report.md").read_text()
    assert "## Index" in text and "## Near-duplicates" in text and "## Encoders" not in text


def test_photos_that_have_moved_leave_the_rest_of_the_report(index: Path, tmp_path: Path) -> None:
    done, _ = evaluate(index, "-d", tmp_path)
    assert done.exit_code == 0 and "could be read: give --img_dir to measure it" in done.stdout
