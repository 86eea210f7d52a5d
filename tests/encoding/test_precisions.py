"""Vectors of which number formats are continued, mixed and compared, on machines with bf16 and without."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import extract_image_vectors
from similar_images.encoding import runtimes
from similar_images.encoding.openvino_runtime import OpenVINORuntime
from similar_images.encoding.runtimes import EarlierRows, choose
from similar_images.encoding.weights import EncoderError
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

HERE = {"gpu": False, "openvino": True}


def earlier(precision: str, agreement: float = 1.0, unfinished: bool = False) -> EarlierRows:
    return EarlierRows(precision, agreement, unfinished)


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize(
    ("asked", "own", "machine", "chosen"),
    [
        ("auto", "f32", {"bf16": True}, "f32"),
        ("auto", "bf16", {"bf16": True}, "bf16"),
        ("auto", "f16", {"bf16": False, "gpu": True}, "f16"),
        ("auto", "f32", {"bf16": False, "gpu": True}, "f32"),
        ("bf16", "bf16", {"bf16": True}, "bf16"),
        ("int8", "int8", {"bf16": True}, "int8"),
        ("int8", "int8+bf16", {"bf16": False}, "int8"),
    ],
)
def test_rows_are_added_in_the_precision_of_earlier_ones(
    asked: str, own: str, machine: dict, chosen: str, unfinished: bool
) -> None:
    assert choose("auto", asked, **HERE | machine, earlier=earlier(own, 0.0, unfinished))[1] == [chosen]


@pytest.mark.parametrize(
    ("asked", "own", "bf16", "chosen"),
    [
        ("auto", "bf16", False, "f32"),
        ("auto", "f16", True, "f32"),
        ("f32", "bf16", True, "f32"),
        ("bf16", "f32", True, "bf16"),
    ],
)
def test_rows_that_agree_are_mixed_but_not_within_a_run(asked: str, own: str, bf16: bool, chosen: str) -> None:
    assert choose("auto", asked, **HERE, bf16=bf16, earlier=earlier(own, 0.9996))[1] == [chosen]
    with pytest.raises(EncoderError, match=f"unfinished run was begun in {own}, not {chosen}: go on with --precision"):
        choose("auto", asked, **HERE, bf16=bf16, earlier=earlier(own, 0.9996, unfinished=True))


@pytest.mark.parametrize(
    ("asked", "own", "agreement", "reason"),
    [
        ("f32", "int8", 0.0, "int8 is not mixed with anything"),
        ("int8", "f32", 1.0, "int8 is not mixed with anything"),
        ("int8", "bf16", 1.0, "int8 is not mixed with anything"),
        ("f32", "bf16", 0.98, "whose agreement with f32 was not measured or is too little"),
        ("auto", "f16", 0.0, "whose agreement with f32 was not measured or is too little"),
    ],
)
def test_rows_that_do_not_agree_are_never_mixed(asked: str, own: str, agreement: float, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason):
        choose("auto", asked, **HERE, bf16=True, earlier=earlier(own, agreement))


@pytest.fixture
def folder(tmp_path: Path, photos: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and some photos, where scripts run."""
    for kind in ("car", "sea"):
        shutil.copytree(photos / kind, tmp_path / "photos" / kind)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on_a_machine(monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    """Go on on a processor with bf16 or without, where OpenVINO calculates in float32 whatever it is asked for."""
    monkeypatch.setattr(runtimes, "processor_has_bf16", lambda: bf16)


def extracted(*options: str) -> Result:
    return CliRunner().invoke(
        extract_image_vectors.main, ["-d", "photos", "-m", "small.keras", "-o", "v.npy", *options]
    )


def another_photo(folder: Path) -> None:
    shutil.copy(folder / "photos" / "car" / "00.jpg", folder / "photos" / f"{len(list(folder.rglob('*.jpg')))}.jpg")


def opened(folder: Path) -> Gallery:
    build_index(open_vectors(folder / "v.npy"), folder / "v.faiss.index", IndexSettings())
    return Gallery.open(folder / "v.faiss.index")


def test_update_goes_on_in_the_gallerys_precision_or_says_that_rows_are_mixed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, bf16=True)
    assert "OpenVINO bf16; of the time" in extracted().stdout
    assert opened(folder).encoder_label == "small.keras"
    on_a_machine(monkeypatch, bf16=False)
    assert "photos are encoded in f32, the gallery was in bf16" in opened(folder).encoder_label
    assert "OpenVINO bf16\n" in extracted("--update").stdout, "there was nothing to encode"
    another_photo(folder)
    assert "OpenVINO f32, beside earlier rows by OpenVINO bf16; of the time" in extracted("--update").stdout
    card = open_vectors(folder / "v.npy").card
    assert card.made_with == ["OpenVINO f32", "OpenVINO bf16"] and 0.9995 <= card.agreement <= 1.000001
    assert opened(folder).encoder_label == "small.keras"
    on_a_machine(monkeypatch, bf16=True)
    another_photo(folder)
    extracted("--update")
    assert open_vectors(folder / "v.npy").card.made_with == ["OpenVINO f32", "OpenVINO bf16"]


def test_update_of_vectors_that_bf16_changes_is_refused_without_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, bf16=True)
    monkeypatch.setattr(runtimes, "_least_cosine", lambda quick, exact, pixels: 0.98)
    assert extracted("--precision", "bf16").exit_code == 0
    assert open_vectors(folder / "v.npy").card.agreement == 0.98
    before = (folder / "v.npy").read_bytes()
    another_photo(folder)
    on_a_machine(monkeypatch, bf16=False)
    refused = extracted("--update")
    assert (
        refused.exit_code == 1 and "go on on a machine that has bf16, or start anew with --overwrite" in refused.stderr
    )
    assert (folder / "v.npy").read_bytes() == before
    assert "OpenVINO f32; of the time" in extracted("--overwrite").stdout
    on_a_machine(monkeypatch, bf16=True)
    another_photo(folder)
    refused = extracted("--update", "--precision", "bf16")
    assert refused.exit_code == 1 and "have a cosine of only 0.9800 to those in f32" in refused.stderr


def test_int8_is_only_added_to_with_the_model_that_began_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine(monkeypatch, bf16=False)
    assert "OpenVINO int8; of the time" in extracted("--precision", "int8").stdout
    gallery = opened(folder)
    vector = gallery.vector(gallery.photo_path(0).read_bytes())
    assert gallery.encoder_label == "small.keras" and np.array_equal(vector, gallery.store.vectors(np.array([0]))[0])
    another_photo(folder)
    assert "OpenVINO int8; of the time" in extracted("--update").stdout
    another_photo(folder)
    refused = extracted("--update", "--precision", "f32")
    assert refused.exit_code == 1 and "int8 is not mixed with anything: leave out --precision" in refused.stderr
    (weights,) = folder.glob("v.npy.int8-*.bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    refused = extracted("--update")
    assert refused.exit_code == 1 and "is missing or damaged: put it back with its .bin file" in refused.stderr
    gallery = opened(folder)
    assert gallery.encoder_label == "small.keras, photos are encoded in f32, the gallery was in int8"
    assert gallery.search(gallery.photo_path(0).read_bytes())[0].similarity > 0.99


def test_int8_says_whether_the_rest_was_in_bf16(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine(monkeypatch, bf16=True)
    assert "OpenVINO int8+bf16; of the time" in extracted("--precision", "int8").stdout
    another_photo(folder)
    on_a_machine(monkeypatch, bf16=False)
    assert "OpenVINO int8, beside earlier rows by OpenVINO int8+bf16" in extracted("--update").stdout
    assert opened(folder).encoder_label == "small.keras"


def test_unfinished_run_goes_on_as_it_was_begun_whatever_the_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, bf16=True)
    stop_after_a_batch(monkeypatch)
    assert extracted("-b", "2").exit_code == 1 and (folder / "v.npy.part").exists()
    on_a_machine(monkeypatch, bf16=False)
    refused = extracted("-b", "2")
    assert refused.exit_code == 1 and "was begun in bf16, not f32: go on with --precision bf16" in refused.stderr
    assert extracted("-b", "2", "--overwrite").exit_code == 1, "stopped again"
    on_a_machine(monkeypatch, bf16=True)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    on_a_machine(monkeypatch, bf16=True)
    done = extracted("-b", "2")
    assert "OpenVINO f32; of the time" in done.stdout and ", 0 kept" not in done.stdout


def stop_after_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(runtime: OpenVINORuntime, batches: Iterable) -> Iterator:
        yield next(encode_all(runtime, batches))
        raise KeyboardInterrupt

    encode_all = OpenVINORuntime.encode_all
    monkeypatch.setattr(OpenVINORuntime, "encode_all", interrupted)
