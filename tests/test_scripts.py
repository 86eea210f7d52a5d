"""Every script as a person runs it: exit code, words, and what it leaves behind; in this process where that will do."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, invoke, run
from msgspec.structs import replace

from similar_images.cards import Failure, write_card
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

EXTRACT, BUILD = "extract_image_vectors.py", "build_search_db.py"
UNTRAINED = ("--encoder", "mobilenet_v2", "--weights", "none")


@pytest.fixture
def work(tmp_path: Path, photos: Path, encoder: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to run scripts in, with some photos, and vectors that have an index."""
    for kind in ("car", "sea"):
        shutil.copytree(photos / kind, tmp_path / "photos" / kind)
    rows = np.random.default_rng(0).random((40, 16), np.float32)
    np.save(tmp_path / "some.saved_predictions.npy", rows)
    (tmp_path / "some").write_text("".join(f"{row}.jpg\n" for row in range(40)))
    vectors = open_vectors(tmp_path / "some.saved_predictions.npy")
    build_index(vectors, tmp_path / "some.faiss.index", IndexSettings())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("script", [EXTRACT, BUILD, "run_demo.py"])
def test_help_names_every_option(script: str) -> None:
    for flag in ("-h", "--help"):
        done = invoke(script, flag)
        assert done.exit_code == 0 and done.stdout.startswith("Usage:") and done.stderr == ""
    contract = {
        EXTRACT: "-l --filename_list -d --img_dir -o --output_filename -m --model_filename -b --batch_size -v "
        "--encoder --layer --weights --overwrite --update --strict --runtime --precision --workers",
        BUILD: "-i --input_vectors -o --output_filename -d --dimension -v --nlist --m --nbits --pca --factory "
        "--train_size --overwrite",
        "run_demo.py": "--images --encoder --folder --no-open",
    }
    said = set(re.findall(r"--?[a-z_-]+", done.stdout))
    assert set(contract[script].split()) <= said


MISTAKES = [
    ([EXTRACT], 2, "Directory 'ms_coco/val2014' does not exist"),
    ([EXTRACT, "-d", "missing"], 2, "Directory 'missing' does not exist"),
    ([EXTRACT, "-d", "photos", "-l", "missing"], 2, "File 'missing' does not exist"),
    ([EXTRACT, "-d", "photos", "-b", "0"], 2, "0 is not in the range"),
    ([EXTRACT, "-d", "photos", "--workers", "0"], 2, "0 is not in the range"),
    (
        [EXTRACT, "-d", "photos", *UNTRAINED[:4], "--runtime", "tensorflow", "--precision", "int8"],
        1,
        "does not run int8",
    ),
    ([EXTRACT, "-d", "photos", "--layer", "fc3"], 2, "'fc3' is not one of"),
    ([EXTRACT, "-d", "photos", "--encoder", "vgg17"], 1, "there is no encoder 'vgg17': choose one of"),
    (
        [EXTRACT, "-d", "photos", "--encoder", "compact"],
        1,
        "compact encoder is no longer part of this project, its successor",
    ),
    ([EXTRACT, "-d", "photos", "--weights", "missing.h5"], 1, "no weights file missing.h5"),
    ([EXTRACT, "-d", "photos", "-m", "photos/car/00.jpg"], 1, "not a Keras model"),
    ([EXTRACT, "-d", "photos", *UNTRAINED, "-o", "some.saved_predictions.npy"], 1, "exists: keep it, --update it"),
    ([EXTRACT, "-d", "photos", *UNTRAINED, "-o", "missing/out.npy"], 1, "missing is no folder that you may write to"),
    ([EXTRACT, "-d", "photos", "-l", "wrong", *UNTRAINED], 1, "none of the 1 photos could be read"),
    ([EXTRACT, "-d", "empty", *UNTRAINED], 1, "there are no photos to encode"),
    ([EXTRACT, "-d", "photos", "-l", "mixed", *UNTRAINED, "--strict"], 1, "missing.jpg: there is no such file"),
    ([BUILD], 2, "Missing option '-i'"),
    ([BUILD, "-i", "missing.npy"], 1, "no vectors file missing.npy: extract_image_vectors.py makes it"),
    ([BUILD, "-i", "wrong"], 1, "not a vectors file"),
    ([BUILD, "-i", "some.saved_predictions.npy"], 1, "some.faiss.index exists"),
    ([BUILD, "-i", "some.saved_predictions.npy", "-d", "4096", "--overwrite"], 1, "vectors of dimension 16, not 4096"),
    ([BUILD, "-i", "some.saved_predictions.npy", "--nlist", "0", "--overwrite"], 2, "0 is not in the range"),
    ([BUILD, "-i", "some.saved_predictions.npy", "--pca", "x", "--overwrite"], 2, "'x' is not a valid"),
    ([BUILD, "-i", "some.saved_predictions.npy", "--factory", "IVF99,Flat", "--overwrite"], 1, "can't build IVF99"),
    ([BUILD, "-i", "some.saved_predictions.npy", "-o", "missing/i"], 1, "missing is no folder that you may write to"),
    ([BUILD, "-i", "nan.npy"], 1, "nan.npy holds values that are not finite: extract the vectors again"),
    (["run_demo.py", "--images", "missing", "--no-open"], 2, "there is no folder missing"),
    (["run_demo.py", "--images", "photos", "--encoder", "vgg17", "--no-open"], 1, "there is no encoder 'vgg17'"),
]


@pytest.mark.parametrize(("command", "code", "sentence"), MISTAKES, ids=[" ".join(words[0]) for words in MISTAKES])
def test_mistake_gets_a_sentence_and_changes_nothing(work: Path, command: list[str], code: int, sentence: str) -> None:
    (work / "empty").mkdir()
    (work / "wrong").write_text("car/99.jpg\n")
    (work / "mixed").write_text("car/00.jpg\nmissing.jpg\n")
    np.save(work / "nan.npy", np.full((1_024, 4), np.nan, np.float32))
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    done = invoke(*command)
    assert done.exit_code == code, done.stderr
    assert sentence in " ".join(done.stderr.split()) and "Traceback" not in done.stderr and done.stdout == ""
    after = {path: path.read_bytes() for path in work.rglob("*") if path.is_file() and ".part" not in path.name}
    assert after == before


def test_extract_then_build_from_a_folder(work: Path) -> None:
    done = run(EXTRACT, "-d", "photos", *UNTRAINED, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "6 photos, 6 encoded" in done.stdout and "0 could not be read" in done.stdout
    assert "UNTRAINED" in done.stderr and "I0000" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert (work / "photos.saved_predictions.npy.txt").read_text().splitlines()[0] == "car/00.jpg"
    done = run(BUILD, "-i", "photos.saved_predictions.npy", cwd=work)
    assert done.returncode == 0 and done.stderr == ""
    assert "IVF100,PQ16x8,Refine(SQfp16) does not fit 6 vectors of dimension 1280: Flat does." in done.stdout
    assert "photos.faiss.index: Flat, 6 vectors" in done.stdout and done.stdout.count("recall@5 1.000") == 1


def test_extract_from_a_list_names_the_output_after_it(work: Path) -> None:
    (work / "list.txt").write_bytes(b"sea/01.jpg\r\ncar/00.jpg\nmissing.jpg\n")
    done = invoke(EXTRACT, "-l", "list.txt", "-d", "photos", *UNTRAINED)
    assert done.exit_code == 0 and "missing.jpg: there is no such file" in done.stdout
    vectors = open_vectors(work / "list.txt.saved_predictions.npy")
    assert vectors.array.any(axis=1).tolist() == [True, True, False]
    assert vectors.card.failures == [Failure(row=2, name="missing.jpg", reason="there is no such file")]


def test_extract_saves_and_loads_the_model_file(work: Path) -> None:
    command = (EXTRACT, "-d", "photos", *UNTRAINED, "-m", "model.keras")
    assert invoke(*command, "-o", "a.npy").exit_code == 0
    assert invoke(*command, "-o", "b.npy").exit_code == 0
    assert (work / "model.keras").exists() and (work / "a.npy").read_bytes() == (work / "b.npy").read_bytes()
    done = invoke(EXTRACT, "-d", "photos", "-m", "model.keras", "-o", "c.npy")
    assert done.exit_code == 1 and "model.keras holds mobilenet_v2 with weights none, not vgg16 fc2" in done.stderr


def test_build_takes_its_options(work: Path) -> None:
    command = (BUILD, "-i", "some.saved_predictions.npy", "-o", "other.faiss.index")
    done = invoke(*command, "-d", "16", "--nlist", "2", "--m", "4", "--nbits", "3", "--pca", "8", "-v")
    assert done.exit_code == 0, done.stderr
    assert (
        "other.faiss.index: Center,PCA8,IVF1,PQ4x3,Refine(SQfp16), 40 vectors" in done.stdout
        and "other.faiss.index.json" in done.stdout
    )
    done = invoke(*command, "--factory", "HNSW8", "--overwrite")
    assert done.exit_code == 0 and "HNSW8, 40 vectors" in done.stdout


@pytest.mark.usefixtures("lite0")
def test_demo_builds_from_odd_folder_and_starts_quickly_again(work: Path) -> None:
    folder = work / "my photos\n& more"
    (work / "photos").rename(folder)
    done = run("run_demo.py", "--no-open", "--folder", "out", cwd=work, IMAGES=str(folder), KERAS_HOME=str(work))
    assert done.returncode == 0, done.stderr
    assert "Encoder: efficientnet_lite0, whose trained weights came through pip" in done.stdout
    assert "Encoded 6 photos" in done.stdout and done.stderr == ""
    index = work / "out" / f"{folder.name}.faiss.index"
    built = index.stat().st_mtime_ns
    again = run("run_demo.py", "--no-open", "--folder", "out", cwd=work, IMAGES=str(folder), KERAS_HOME=str(work))
    assert again.returncode == 0 and "Encoded" not in again.stdout and index.stat().st_mtime_ns == built
    shutil.copy(folder / "car" / "00.jpg", folder / "new.jpg")
    more = run("run_demo.py", "--no-open", "--folder", "out", cwd=work, IMAGES=str(folder), KERAS_HOME=str(work))
    assert "Encoded 1 photos" in more.stdout and index.stat().st_mtime_ns > built
    shutil.copy(folder / "car" / "01.jpg", folder / "new.jpg")  # another photo of the same name
    changed = run("run_demo.py", "--no-open", "--folder", "out", cwd=work, IMAGES=str(folder), KERAS_HOME=str(work))
    assert "Encoded 1 photos" in changed.stdout


@pytest.mark.usefixtures("lite0")
def test_demo_makes_a_gallery_of_the_compact_encoder_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(work))
    command = ("run_demo.py", "--no-open", "--folder", "out", "--images", "photos")
    assert invoke(*command).exit_code == 0
    vectors = work / "out" / "photos.saved_predictions.npy"
    write_card(vectors, replace(open_vectors(vectors).card, encoder="compact", weights_digest="0" * 64))
    assert "Encoded 6 photos" in invoke(*command).stdout
    assert Gallery.open(work / "out" / "photos.faiss.index").encoder_label == "efficientnet_lite0"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_of_any_kind_are_printed_on_any_terminal(work: Path, encoding: str) -> None:
    settings = {"PYTHONIOENCODING": encoding, "LANG": "C", "LC_ALL": "C"}
    folder = work / os.fsdecode(b"caf\xe9 \xe7\x8c\xab")
    (work / "photos").rename(folder)
    (folder / os.fsdecode(b"\xff\n.jpg")).touch()
    done = run(EXTRACT, "-d", folder.name, *UNTRAINED, cwd=work, **settings)
    assert done.returncode == 0 and "1 could not be read" in done.stdout, done.stderr
    assert r"\xff\n.jpg: it is empty" in done.stdout
    done = run(BUILD, "-i", f"{folder.name}.saved_predictions.npy", "-o", "new.faiss.index", cwd=work, **settings)
    assert done.returncode == 0 and "Flat, 6 vectors" in done.stdout, done.stderr


# A process that sends itself Ctrl-C when it begins to import so many modules after click, which scripts import first.
INTERRUPTING = """
import os, signal, sys
left = None
def count(event, arguments):
    global left
    if event == "import" and (left is not None or arguments[0] == "click"):
        left = int(os.environ["INTERRUPT_AFTER"]) if left is None else left - 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(count)
"""
BEGINNINGS = {
    EXTRACT: ("-d", "photos", *UNTRAINED),
    BUILD: ("-i", "some.saved_predictions.npy", "-o", "new.faiss.index"),
    "evaluate_search.py": ("some.faiss.index", "--no-robustness"),
    "run_demo.py": ("--images", "photos", "--no-open"),
}


@pytest.mark.parametrize("script", BEGINNINGS)
@pytest.mark.parametrize("way", ["script", "command"])
def test_ctrl_c_amid_imports_is_a_sentence(script: str, way: str, work: Path) -> None:
    (work / "hook").mkdir()
    (work / "hook" / "sitecustomize.py").write_text(INTERRUPTING)
    started_by = ROOT / script if way == "script" else Path(sysconfig.get_path("scripts"), script.removesuffix(".py"))
    command = [sys.executable, str(started_by), *BEGINNINGS[script]]
    moments = [0, 1, 10, 30, 60, 100, 150, 200]
    runs = [
        subprocess.Popen(
            command,
            cwd=work,
            env=os.environ | {"PYTHONPATH": str(work / "hook"), "INTERRUPT_AFTER": str(moment)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for moment in moments
    ]
    for moment, started in zip(moments, runs, strict=True):
        said = started.communicate()[1]
        assert (moment, started.returncode) == (moment, 1) and "Traceback" not in said, said
        assert said.splitlines()[-1].startswith("Error: stopped"), said
