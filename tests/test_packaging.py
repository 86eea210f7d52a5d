"""The wheel, built for real and installed beside what this environment has, with no way back to the checkout."""

import shutil
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import ROOT, run

from similar_images.search.gallery import Gallery

COMMANDS = ("extract_image_vectors", "build_search_db", "evaluate_search", "run_demo")
WHEREABOUTS = """
import importlib, sys
for name in ("similar_images", *sys.argv[1:]):
    print(importlib.import_module(name).__file__)
print(importlib.import_module("run_demo").NOTEBOOK)
"""


def checkout(folder: Path) -> Path:
    """Copy what a checkout has of the project itself: a build leaves files where it runs."""
    shutil.copytree(ROOT / "similar_images", folder / "similar_images")
    for pattern in ("*.py", "*.ipynb", "requirements*.txt", "pyproject.toml", "README.md"):
        for file in ROOT.glob(pattern):
            shutil.copy(file, folder)
    return folder


def environment(folder: Path, *wheels: Path) -> Path:
    """Make a virtual environment with wheels and the packages of this one; return where its commands are."""
    venv.create(folder, symlinks=True)
    commands = folder / "bin"
    if wheels:
        install = ("install", "--no-deps", "--no-index", *wheels)
        done = run(sys.executable, "-m", "pip", "--python", commands / "python", *install, cwd=folder)
        assert done.returncode == 0, done.stderr
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    theirs = [path for path in sys.path if path.endswith("-packages")]  # an editable project is none of them
    (packages / "others.pth").write_text("\n".join(theirs))
    return commands


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel's console commands are."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "checkout").mkdir()
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, checkout(folder / "checkout"))
    done = run(sys.executable, "-m", "pip", *build, cwd=folder)
    assert done.returncode == 0, done.stderr
    return environment(folder / "venv", *folder.glob("*.whl"))


@pytest.fixture
def work(tmp_path: Path, photos: Path) -> Path:
    """A folder with some photos."""
    shutil.copytree(photos / "car", tmp_path / "photos" / "car")
    shutil.copytree(photos / "sea", tmp_path / "photos" / "sea")
    return tmp_path


def succeed(*command: object, cwd: Path, **settings: str) -> str:
    """Run a command, which must do well; return what it printed."""
    done = run(*command, cwd=cwd, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_brings_package_scripts_and_notebook(commands: Path, tmp_path: Path) -> None:
    said = succeed(commands / "python", "-I", "-c", WHEREABOUTS, *COMMANDS, cwd=tmp_path)
    places = [Path(line) for line in said.splitlines()]
    assert len(places) == 6 and all(place.resolve().is_relative_to(commands.parent.resolve()) for place in places)
    assert places[-1].read_bytes() == (ROOT / "Similar image.ipynb").read_bytes()


def test_wheel_holds_every_file_that_the_package_reads(commands: Path, tmp_path: Path) -> None:
    said = succeed(commands / "python", "-I", "-c", WHEREABOUTS, cwd=tmp_path)
    installed = Path(said.splitlines()[0]).parent
    files = [file.relative_to(ROOT / "similar_images") for file in (ROOT / "similar_images").rglob("*.*")]
    wanted = [file for file in files if file.suffix != ".pyc" and file.name != "download.sh"]  # of the shell scripts
    assert wanted and [file for file in wanted if not (installed / file).exists()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_command_names_itself_in_its_help(commands: Path, tmp_path: Path, name: str) -> None:
    assert succeed(commands / name, "--help", cwd=tmp_path).startswith(f"Usage: {name} [OPTIONS]")


@pytest.mark.usefixtures("encoder")
def test_commands_go_from_photos_to_a_notebook_that_searches(commands: Path, work: Path) -> None:
    untrained = ("--encoder", "mobilenet_v2", "--weights", "none")
    vectors, index = "photos.saved_predictions.npy", "photos.faiss.index"
    succeed(commands / "extract_image_vectors", "-d", "photos", *untrained, cwd=work)
    succeed(commands / "build_search_db", "-i", vectors, cwd=work)
    assert [hit.name for hit in Gallery.open(work / index).search("car/00.jpg", k=1)] == ["car/00.jpg"]
    succeed(commands / "evaluate_search", index, "--no-robustness", cwd=work)
    assert "evaluate_search photos.faiss.index" in (work / f"{index}.evaluation" / "report.html").read_text()
    notebook = commands.parent / "share" / "similar_images" / "Similar image.ipynb"
    execute = ("-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", work, notebook)
    succeed(commands / "python", *execute, cwd=work, SIMILAR_IMAGES_INDEX=str(work / index))
    assert "6 photos" in (work / notebook.name).read_text()


@pytest.mark.usefixtures("lite0")
def test_run_demo_from_the_wheel_builds_a_gallery(commands: Path, work: Path) -> None:
    said = succeed(
        commands / "run_demo", "--images", "photos", "--encoder", "efficientnet_lite0", "--no-open", cwd=work
    )
    assert said.endswith("The gallery is demo/photos.faiss.index.\n")
    assert len(Gallery.open(work / "demo" / "photos.faiss.index")) == 6


@pytest.mark.usefixtures("lite0")
def test_run_demo_of_a_project_that_is_not_installed_says_what_to_do(work: Path) -> None:
    (work / "checkout").mkdir()
    command = (environment(work / "venv") / "python", checkout(work / "checkout") / "run_demo.py", "--images", "photos")
    refused = run(*command, cwd=work)
    assert refused.returncode == 1 and refused.stderr.startswith("Error: ") and "pip install -e ." in refused.stderr
    succeed(*command, "--encoder", "efficientnet_lite0", "--no-open", cwd=work)
