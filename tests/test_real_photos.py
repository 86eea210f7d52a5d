"""What the project must show on real photos with real trained weights, where they are at hand."""

import csv
import io
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from PIL import Image

from similar_images.encoding.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.encoding.runtimes import Runtime, open_runtime, processor_has_bf16
from similar_images.evaluation.measures import precision_at_k
from similar_images.extraction.extraction import extract, sample_photos
from similar_images.photos.file_list import list_photos
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import normalise, open_vectors


@pytest.fixture(scope="module")
def mobilenet(shared: Path) -> Encoder:
    weights = shared / "weights" / "mobilenet_v2_1.0_224_features.keras"
    return load_encoder(EncoderSpec("mobilenet_v2", weights=str(weights)))


def opened_as_usual(encoder: Encoder, photos: Path) -> Runtime:
    return open_runtime(encoder, photos=partial(sample_photos, list_photos(photos), photos, encoder))


def build(photos: Path, folder: Path, encoder: Encoder) -> Gallery:
    runtime = opened_as_usual(encoder, photos)
    extract(list_photos(photos), photos, folder / "v.saved_predictions.npy", runtime)
    vectors = open_vectors(folder / "v.saved_predictions.npy")
    build_index(vectors, folder / "v.faiss.index", IndexSettings())
    return Gallery.open(folder / "v.faiss.index")


@pytest.fixture(scope="module")
def caltech(shared: Path, tmp_path_factory: pytest.TempPathFactory, mobilenet: Encoder) -> Gallery:
    return build(shared / "images" / "caltech101", tmp_path_factory.mktemp("caltech"), mobilenet)


def test_caltech101_precision_at_10(caltech: Gallery) -> None:
    labels = np.array([name.split("/")[0] for name in caltech.names])
    relevant = []
    for row in range(len(labels)):
        ids = [hit.image_id for hit in caltech.search(row, 11) if hit.image_id != row][:10]
        relevant.append(labels[ids] == labels[row])
    assert len(labels) == 2400 and precision_at_k(np.array(relevant)) >= 0.78


def test_caltech101_feedback_raises_precision(caltech: Gallery, tmp_path: Path) -> None:
    done = run("benchmarks/feedback.py", caltech.path, cwd=tmp_path)
    figures = re.findall(r"(\w+) photos +(0\.\d+) -> (0\.\d+)", done.stdout)
    assert [of for of, _, _ in figures] == ["all", "unmarked"], done.stderr
    for _, before, after in figures:
        assert float(after) > float(before) + 0.1


def test_coco_photo_turned_by_exif_finds_its_original(shared: Path, tmp_path: Path, mobilenet: Encoder) -> None:
    gallery = build(shared / "images" / "coco", tmp_path, mobilenet)
    with open(shared / "images" / "coco" / "ATTRIBUTION.csv", newline="") as file:
        assert len(gallery) == len(list(csv.DictReader(file)))
    exif = Image.Exif()
    exif[0x0112] = 6
    for row in range(0, len(gallery), 20):
        turned = io.BytesIO()
        with Image.open(gallery.photo_path(row)) as original:
            original.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", quality=95, exif=exif)
        first = gallery.search(turned.getvalue(), k=1)[0]
        assert first.image_id == row and first.distance < 0.05


def test_mobilenet_runs_in_f32_because_bf16_changes_its_vectors(shared: Path, mobilenet: Encoder) -> None:
    photos = shared / "images" / "coco"
    if not processor_has_bf16():
        pytest.skip("this processor does not calculate in bf16")
    sample = sample_photos(list_photos(photos), photos, mobilenet, 16)
    exact, quick = (
        normalise(open_runtime(mobilenet, "openvino", precision).encode(sample)) for precision in ("f32", "bf16")
    )
    assert (exact * quick).sum(axis=1).min() < 0.999
    assert opened_as_usual(mobilenet, photos).precision == "f32"


def test_vectors_are_the_same_whatever_runs_them(shared: Path, tmp_path: Path, mobilenet: Encoder) -> None:
    photos = shared / "images" / "coco"
    found = []
    for number, (runtime, batch_size, workers) in enumerate(
        [("openvino", 1, 1), ("openvino", 7, 4), ("openvino", 32, 2), ("tensorflow", 32, 2)]
    ):
        ready = open_runtime(mobilenet, runtime, "auto", partial(sample_photos, list_photos(photos), photos, mobilenet))
        output = tmp_path / f"{number}.npy"
        extract(list_photos(photos), photos, output, ready, batch_size=batch_size, workers=workers)
        found.append(normalise(np.load(output)))
    single = np.concatenate([mobilenet.model(mobilenet.pixels(photos / name)[None]) for name in list_photos(photos)])
    for vectors in found:
        assert (vectors * normalise(single)).sum(axis=1).min() > 0.9999
