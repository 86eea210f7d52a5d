"""Scripts killed before each of their changes to the disk: what is left is whole, or the same command makes it so."""

import shutil
from pathlib import Path

import pytest
from conftest import run
from killed_runs import State, killed_runs

VECTORS, INDEX = "photos.saved_predictions.npy", "photos.faiss.index"
CATALOGUE = "photos.catalogue.sqlite"
EXTRACT = ("-d", "photos", "--encoder", "mobilenet_v2", "--weights", "none", "--precision", "f32", "-b", "1")
BUILD = ("-i", VECTORS)
DEMO = ("--images", "photos", "--folder", ".", "--encoder", "efficientnet_lite0", "--no-open")


@pytest.fixture
def work(tmp_path: Path, photos: Path, encoder: object) -> Path:
    """A folder with three photos, and an index of the vectors of two of them."""
    folder = tmp_path / "work"
    shutil.copytree(photos / "car", folder / "photos")
    kept = (folder / "photos" / "02.jpg").rename(tmp_path / "02.jpg")
    assert run("extract_image_vectors.py", *EXTRACT, cwd=folder).returncode == 0
    assert run("build_search_db.py", *BUILD, cwd=folder).returncode == 0
    kept.rename(folder / "photos" / "02.jpg")
    return folder


def remove(folder: Path, *names: str) -> None:
    for name in names:
        for file in folder.glob(f"{name}*"):
            file.unlink()


def check(states: list[State], outputs: list[str]) -> None:
    """Compare each state with what the last run, which nobody killed, wrote, and with what there was."""
    assert len(states) > 5 and not states[-1].killed
    old, new = states[0].left, states[-1].left
    for state in states:
        assert (state.opened in (0, 3), state.opened_again) == (True, 0) and "Traceback" not in state.said, state
        complete = all(state.left.get(name) == new[name] for name in outputs)
        assert state.code == 0 or (complete and "exists: keep it" in state.said), state
        assert [state.files[name] for name in outputs] == [new[name] for name in outputs], state
        litter = state.files.keys() - new.keys() - old.keys()
        assert not litter or (complete and all(name.endswith(".lock") for name in litter)), state


def test_extract_killed_at_any_change_is_finished_by_the_same_command(work: Path) -> None:
    remove(work, VECTORS, INDEX)
    check(killed_runs(work, "extract_image_vectors", *EXTRACT), [VECTORS, f"{VECTORS}.txt"])


def test_update_killed_at_any_change_is_finished_by_the_same_command(work: Path, photos: Path) -> None:
    remove(work, INDEX)
    (work / "photos" / "00.jpg").rename(work / "photos" / "renamed.jpg")
    shutil.copy(photos / "sea" / "00.jpg", work / "photos" / "01.jpg")
    check(killed_runs(work, "extract_image_vectors", *EXTRACT, "--update"), [VECTORS, f"{VECTORS}.txt"])


def test_rename_killed_at_any_change_is_followed_by_the_same_command(work: Path) -> None:
    remove(work, INDEX)
    (work / "photos" / "02.jpg").unlink()
    (work / "photos" / "00.jpg").rename(work / "photos" / "renamed.jpg")
    outputs = [VECTORS, f"{VECTORS}.txt", f"{VECTORS}.json", CATALOGUE]
    check(killed_runs(work, "extract_image_vectors", *EXTRACT, "--update"), outputs)


@pytest.mark.parametrize("is_there", [False, True])
def test_build_killed_at_any_change_is_finished_by_the_same_command(work: Path, is_there: bool) -> None:
    if not is_there:
        remove(work, INDEX)
    check(killed_runs(work, "build_search_db", *BUILD, *["--overwrite"] * is_there), [INDEX])


@pytest.mark.parametrize("before", ["another encoder's gallery", "a gallery of fewer photos"])
def test_demo_killed_at_any_change_is_finished_by_the_same_command(work: Path, before: str) -> None:
    if before == "a gallery of fewer photos":
        assert run("run_demo.py", *DEMO, cwd=work).returncode == 0
        shutil.copy(work / "photos" / "00.jpg", work / "photos" / "03.jpg")
    check(killed_runs(work, "run_demo", *DEMO), [VECTORS, f"{VECTORS}.txt"])
