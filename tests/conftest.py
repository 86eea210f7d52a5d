"""What tests share: small real galleries, made once, and the folder of real photos where there is one."""

import importlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from jupyter_page import CHROMIUM, chromium
from kept_pages import pytest_runtest_makereport  # noqa: F401 - a hook
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser

from similar_images.cards import VectorsCard
from similar_images.encoding.conversion import converted, converted_file
from similar_images.encoding.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.encoding.runtimes import Runtime, open_runtime
from similar_images.encoding.weights import import_keras
from similar_images.extraction.extraction import extract
from similar_images.photos.file_list import list_photos
from similar_images.photos.samples import draw_samples
from similar_images.search.gallery import Gallery
from similar_images.store.facts import Facts
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.unfinished_vectors import UnfinishedVectors
from similar_images.store.vectors import open_vectors

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
ODD_NAMES = [
    os.fsdecode(b"caf\xe9/\xff.jpg"),
    os.fsdecode(b"caf\xe9/|a`b``.jpg"),
    "=1+1/two\nlines.jpg",
    "=1+1/$\\frac$.jpg",
    "猫/é.jpg",
    '猫/"quoted".jpg',
]


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder of real photos and weights, ../shared, is not here")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where fixtures that many tests share keep converted encoders: not where yours are."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMILAR_IMAGES_CACHE", str(folder))
        patch.setenv("XDG_DATA_HOME", str(folder / "key"))  # nor is the key that signs cards yours
        yield folder


@pytest.fixture(autouse=True)
def cache(
    request: pytest.FixtureRequest,
    session_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Where a test keeps converted encoders: empty, but for links to those of the fixtures that it asks for.

    Only what is expensive is shared: what a test notes about an encoder replaces its own card.
    """
    folder = tmp_path_factory.mktemp("cache")
    for name in sorted({"encoder", "vgg16", "lite0"} & set(request.fixturenames)):
        kept = converted_file(request.getfixturevalue(name), session_cache)
        for file in kept.parent.glob(f"{kept.stem}.*"):
            os.link(file, folder / file.name)
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(folder))
    return folder


def made(spec: EncoderSpec) -> Encoder:
    """Load an encoder and keep it converted, so that every other run or opening of it is quick."""
    encoder = load_encoder(spec)
    converted(encoder)
    return encoder


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """A quick one: what it sees doesn't matter here, only that it is always the same."""
    return made(EncoderSpec("mobilenet_v2", weights="none"))


@pytest.fixture(scope="session")
def vgg16() -> Encoder:
    return made(EncoderSpec("vgg16", weights="none"))


@pytest.fixture(scope="session")
def lite0() -> Encoder:
    return made(EncoderSpec("efficientnet_lite0"))


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """A model of one's own in which no number format goes wrong."""
    return save_small_model(tmp_path / "small.keras")


def save_small_model(path: Path, d: int = 16) -> Path:
    """Write an untrained model from 32 x 32 pixels to a vector."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    taken = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(d, 3, activation="relu")(taken)
    keras.Model(taken, keras.layers.GlobalAveragePooling2D()(maps)).save(path)
    return path


@pytest.fixture(scope="session")
def runtime(encoder: Encoder) -> Runtime:
    """The encoder, run as usual but in float32."""
    return open_runtime(encoder, precision="f32")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """75 drawn pictures in 25 folders."""
    folder = tmp_path_factory.mktemp("gallery") / "photos"
    draw_samples(folder, per_kind=3)
    return folder


@pytest.fixture(scope="session")
def index_file(photos: Path, runtime: Runtime) -> Path:
    """The index of `photos`, with vectors and cards beside it."""
    vectors, index = photos.parent / "photos.saved_predictions.npy", photos.parent / "photos.faiss.index"
    extract(list_photos(photos), photos, vectors, runtime)
    build_index(open_vectors(vectors), index, IndexSettings())
    return index


@pytest.fixture(scope="session")
def gallery(index_file: Path) -> Gallery:
    return Gallery.open(index_file)


@pytest.fixture(scope="session")
def raw_index(index_file: Path) -> Path:
    """Another index of `photos`, by raw cosine, so without components."""
    index = index_file.with_name("raw.faiss.index")
    build_index(open_vectors(index_file.with_name("photos.saved_predictions.npy")), index, IndexSettings(pca=None))
    return index


@pytest.fixture(scope="session")
def odd_index(photos: Path, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of six photos whose names and folders are no UTF-8, or trouble a terminal, a table or a picture."""
    folder = tmp_path_factory.mktemp("odd") / "photos"
    for name, photo in zip(ODD_NAMES, sorted(photos.rglob("*.jpg")), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy(photo, folder / name)
        except OSError:
            pytest.skip("the file system takes only names in UTF-8")
    vectors = folder.parent / "photos.saved_predictions.npy"
    extract(list_photos(folder), folder, vectors, runtime)
    build_index(open_vectors(vectors), folder.parent / "photos.faiss.index", IndexSettings())
    return folder.parent / "photos.faiss.index"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium; its driver keeps an event loop running, so no longer than a module needs it."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium on this machine: apt install chromium, say")
    with chromium() as started:
        yield started


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG of 64 x 48 pixels, left half red, right half blue."""
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (32, 0, 64, 48))
    image.save(tmp_path / "photo.jpg", quality=95)
    return tmp_path / "photo.jpg"


def screenshot(photo: Path) -> bytes:
    """Return a picture, as a PNG, of a page with text on which a photo is: at 60, 200 of 120 and 300 pixels more."""
    with Image.open(photo) as inside:
        page = Image.new("RGB", (inside.width + 120, inside.height + 300), (20, 20, 24))
        page.paste(inside, (60, 200))
    for y in (20, 60, 100, inside.height + 220, inside.height + 260):
        ImageDraw.Draw(page).text((30, y), "a photo that somebody shared", "white", ImageFont.load_default(20))
    png = io.BytesIO()
    page.save(png, "PNG")
    return png.getvalue()


def write_vectors(
    path: Path, rows: np.ndarray, img_dir: str | None = None, photos: Sequence[Facts] | None = None
) -> Path:
    """Write vectors with their list (0.jpg, 1.jpg, ...) and card, as extraction does; rows of zeros have failed."""
    unfinished = UnfinishedVectors(path, rows.shape, {"encoder": "test"})
    unfinished.open()
    unfinished.write(0, rows)
    if photos is None:
        photos = [Facts(row, f"{row}.jpg") for row in range(len(rows))]
        for row in np.flatnonzero(~rows.any(axis=1)).tolist():
            photos[row] = Facts(row, f"{row}.jpg", state="unreadable", reason="cut off")
    unfinished.checkpoint(len(rows), photos)
    unfinished.finish(VectorsCard(n=len(rows), d=rows.shape[1], img_dir=img_dir))
    return path


def centred(rows: np.ndarray) -> np.ndarray:
    """Return vectors (n, d) L2-normalised, less their mean, and L2-normalised again, in float64; zeros stay zeros."""
    known = rows.any(axis=1)
    units = np.zeros(rows.shape)
    units[known] = rows[known] / np.linalg.norm(rows[known].astype(np.float64), axis=1, keepdims=True)
    units[known] -= units[known].mean(axis=0)
    units[known] /= np.linalg.norm(units[known], axis=1, keepdims=True)
    return units


def invoke(script: str, *words: object) -> Result:
    """Run a script in this process, in the folder that it is in; what is no sentence of a script's is raised."""
    main = importlib.import_module(script.removesuffix(".py")).main
    environment = {"IMAGES": None, "ENCODER": None}
    return CliRunner().invoke(main, [str(word) for word in words], env=environment, catch_exceptions=False)


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the project as a person would; say what came of it."""
    words = [str(word) for word in command]
    if words[0].endswith(".py"):
        words = [sys.executable, str(ROOT / words[0]), *words[1:]]
    settings = {key: value for key, value in os.environ.items() if key not in ("IMAGES", "ENCODER")} | environment
    return subprocess.run(words, cwd=cwd, env=settings, capture_output=True, text=True, timeout=600, check=False)
