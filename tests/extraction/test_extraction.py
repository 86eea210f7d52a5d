import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bad_files import bad_files
from conftest import ROOT, run
from msgspec.structs import asdict
from PIL import Image

from similar_images.encoding.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.encoding.runtimes import Runtime, open_runtime
from similar_images.extraction.extraction import extract, sample_photos
from similar_images.files import BusyError, locked
from similar_images.photos.file_list import list_photos, read_file_list, write_file_list
from similar_images.photos.images import ImageReadError
from similar_images.photos.samples import draw_samples
from similar_images.store.unfinished_vectors import left_by
from similar_images.store.vectors import VectorsError, open_vectors

SCRIPT = "extract_image_vectors.py"
UNTRAINED = ("--encoder", "mobilenet_v2", "--weights", "none", "--precision", "f32")


@pytest.fixture
def folder(tmp_path: Path, photos: Path, encoder: Encoder) -> Path:
    """A few photos that a test may change."""
    for kind in ("car", "sea", "clock"):
        shutil.copytree(photos / kind, tmp_path / "photos" / kind)
    return tmp_path / "photos"


def alone(runtime: Runtime, photo: Path) -> np.ndarray:
    """Encode one photo without the code that is tested."""
    encoder = runtime.encoder
    return encoder.model(encoder.pixels(photo)[None]).numpy()[0]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_extract_gives_row_i_the_photo_of_line_i(folder: Path, runtime: Runtime) -> None:
    names = list_photos(folder)[::-1]
    output = folder.parent / "out.npy"
    done = extract(names, folder, output, runtime, batch_size=4)
    vectors = open_vectors(output)
    assert (done.encoded, done.kept, done.failures) == (9, 0, [])
    assert vectors.array.shape == (9, 1280) and vectors.array.dtype == np.float32
    assert read_file_list(output.with_name("out.npy.txt")) == names
    for row, name in enumerate(names):
        assert cosine(vectors.array[row], alone(runtime, folder / name)) > 0.9999
    assert vectors.card.encoder == "mobilenet_v2" and vectors.card.trained is False
    assert vectors.card.img_dir == "photos"


def test_extract_is_independent_of_batch_size(folder: Path, runtime: Runtime) -> None:
    names = list_photos(folder)
    results = []
    for batch_size in (1, 4, 32):
        extract(names, folder, folder.parent / f"{batch_size}.npy", runtime, batch_size=batch_size)
        results.append(np.load(folder.parent / f"{batch_size}.npy"))
    for one, other in itertools.pairwise(results):
        assert min(cosine(a, b) for a, b in zip(one, other, strict=True)) > 0.9999


def test_extract_of_bad_and_odd_files_encodes_the_good_and_names_the_bad(folder: Path, runtime: Runtime) -> None:
    good = [
        "two\nlines.jpg",
        "a b.jpg",
        '"quoted".jpg',
        "ünï.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        "LOUD.JPG",
        "-l.jpg",
        "日本.jpg",
    ]
    for name in good:
        shutil.copy(folder / "car" / "00.jpg", folder / name)
    for kind in ("PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "AVIF", "JPEG2000"):
        suffix = {"TIFF": "tif", "JPEG2000": "jp2"}.get(kind, kind.lower())
        Image.open(folder / "car" / "00.jpg").save(folder / f"car.{suffix}", kind)
        good.append(f"car.{suffix}")
    bad = set(bad_files(folder)) - {"folder.jpg"}  # a folder is looked into, not listed
    names = [*list_photos(folder), "missing.jpg", ""]
    output = folder.parent / "out.npy"
    done = extract(names, folder, output, runtime)
    vectors, card = np.load(output), json.loads((folder.parent / "out.npy.json").read_text())
    assert {failure.name for failure in done.failures} == {*bad, ""}
    assert card["failures"] == [asdict(failure) for failure in done.failures]
    assert all(failure.reason for failure in done.failures)
    failed = [failure.row for failure in done.failures]
    assert [names[row] for row in failed] == [failure.name for failure in done.failures]
    assert np.array_equal(np.flatnonzero(~vectors.any(axis=1)), sorted(failed))
    for name in good:
        assert cosine(vectors[names.index(name)], alone(runtime, folder / name)) > 0.9999, name


def test_extract_strict_stops_at_the_first_bad_photo(folder: Path, runtime: Runtime) -> None:
    (folder / "bad.jpg").write_text("no photo")
    with pytest.raises(ImageReadError, match=r"bad\.jpg"):
        extract(list_photos(folder), folder, folder.parent / "out.npy", runtime, strict=True)
    assert not (folder.parent / "out.npy").exists()


def test_extract_of_nothing_readable_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(VectorsError, match=r"none of the 2 photos.*img_dir"):
        extract(["a.jpg", "b.jpg"], tmp_path, tmp_path / "out.npy", runtime)
    with pytest.raises(VectorsError, match="there are no photos"):
        extract([], tmp_path, tmp_path / "out.npy", runtime)
    assert list(tmp_path.iterdir()) == []


def test_extract_never_overwrites_unasked(folder: Path, runtime: Runtime) -> None:
    output = folder.parent / "out.npy"
    output.write_text("precious")
    with pytest.raises(VectorsError, match="exists"):
        extract(list_photos(folder), folder, output, runtime)
    assert output.read_text() == "precious"
    extract(list_photos(folder), folder, output, runtime, overwrite=True)
    assert np.load(output).shape == (9, 1280)


def test_extract_update_with_another_runtime_keeps_what_is_there_and_says_so(folder: Path, encoder: Encoder) -> None:
    output = folder.parent / "out.npy"
    extract(list_photos(folder)[1:], folder, output, open_runtime(encoder, "tensorflow", "f32"))
    assert open_vectors(output).card.made_with == ["TensorFlow f32"]
    done = extract(list_photos(folder), folder, output, open_runtime(encoder, "openvino", "f32"), update=True)
    assert (done.encoded, done.kept) == (1, 8)
    assert open_vectors(output).card.made_with == ["OpenVINO f32", "TensorFlow f32"]


@pytest.mark.parametrize("workers", [1, 3])
def test_extract_says_where_the_time_went(folder: Path, runtime: Runtime, workers: int) -> None:
    done = extract(list_photos(folder), folder, folder.parent / "out.npy", runtime, workers=workers)
    assert done.shares.keys() == {"decode", "encode", "write"} and sum(done.shares.values()) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in done.shares.values()) and done.seconds > 0


def test_sample_photos_are_spread_over_the_list_and_readable(folder: Path, encoder: Encoder) -> None:
    names = list_photos(folder)
    shutil.copy(__file__, folder / names[-1])
    pixels = sample_photos(names, folder, encoder, 3)
    expected = [encoder.pixels(folder / names[row]) for row in (0, 4)]
    assert np.array_equal(pixels, expected)
    assert sample_photos(["missing.jpg"], folder, encoder, 3).shape == (0, 224, 224, 3)


def test_extract_update_with_another_encoder_is_refused(folder: Path, runtime: Runtime) -> None:
    extract(list_photos(folder), folder, folder.parent / "out.npy", runtime)
    other = open_runtime(load_encoder(EncoderSpec("mobilenet_v2", weights="none", resize="keras")), precision="f32")
    with pytest.raises(VectorsError, match="another encoder"):
        extract(list_photos(folder), folder, folder.parent / "out.npy", other, update=True)


def test_extract_without_room_says_so_before_it_begins(folder: Path) -> None:
    limit = "import resource, sys, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    start = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run(sys.executable, "-c", limit + start, ROOT / SCRIPT, "-d", "photos", *UNTRAINED, cwd=folder.parent)
    assert done.returncode == 1 and "need 46.2 kB" in done.stderr and "has no room" in done.stderr
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["photos"]


def test_extract_on_a_disk_that_fills_up_says_so_and_goes_on_when_there_is_room(folder: Path, runtime: Runtime) -> None:
    names, output = ["car/00.jpg", "x" * 200_000], folder.parent / "out.npy"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            VectorsError, match=r"out\.npy can't be written \(disk I/O error\).*the same command goes on"
        ):
            extract(names, folder, output, runtime)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not output.exists()
    assert extract(names, folder, output, runtime).encoded == 2 and open_vectors(output).card.n == 2


def test_extract_beside_another_run_of_the_same_output_is_refused(folder: Path, runtime: Runtime) -> None:
    with locked(folder.parent / "out.npy"), pytest.raises(BusyError, match="another run is writing"):
        extract(list_photos(folder), folder, folder.parent / "out.npy", runtime)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A folder with list.txt: 2,005 lines, which take long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("many")
    draw_samples(folder / "photos", per_kind=16)
    (folder / "photos" / "bad.jpg").write_text("no photo")
    write_file_list(folder / "list.txt", list_photos(folder / "photos") * 5)
    return folder


def test_extract_interrupted_by_ctrl_c_says_how_to_go_on(many: Path) -> None:
    command = [
        sys.executable,
        ROOT / SCRIPT,
        "-l",
        "list.txt",
        "-d",
        "photos",
        *UNTRAINED,
        "-b",
        "8",
        "-o",
        "stopped.npy",
    ]
    process = subprocess.Popen(command, cwd=many, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and left_by(many / "stopped.npy") is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "the same command goes on" in said and "Traceback" not in said
    refused = run(*command, "--resize", "keras", cwd=many)
    assert refused.returncode == 1 and "unfinished run made with another resize" in refused.stderr
    done = run(*command, cwd=many)
    assert done.returncode == 0 and ", 0 kept" not in done.stdout


def test_extract_finds_a_rotated_copy_near_its_original(photos: Path, tmp_path: Path, runtime: Runtime) -> None:
    original = Image.open(photos / "car" / "00.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    original.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    turned, upright = alone(runtime, tmp_path / "turned.jpg"), alone(runtime, photos / "car" / "00.jpg")
    assert 2 - 2 * cosine(turned, upright) < 0.05
