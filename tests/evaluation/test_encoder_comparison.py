import platform
from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images.encoding import runtimes
from similar_images.encoding.conversion import keep_agreement
from similar_images.encoding.encoders import Encoder, EncoderSpec
from similar_images.encoding.runtimes import open_runtime
from similar_images.evaluation.answer_quality import answer_quality
from similar_images.evaluation.encoder_comparison import own_figures, parse_spec, try_encoder
from similar_images.evaluation.labels import Labels, labels_of
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import normalise, open_vectors


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        ("resnet50", EncoderSpec("resnet50")),
        ("vgg16:fc1", EncoderSpec("vgg16", "fc1")),
        ("vgg16:fc1=none", EncoderSpec("vgg16", "fc1", "none")),
        ("mobilenet_v2=/some/file.keras", EncoderSpec("mobilenet_v2", weights="/some/file.keras")),
    ],
)
def test_parse_spec(words: str, spec: EncoderSpec) -> None:
    assert parse_spec(words) == spec


def test_own_figures_of_an_unknown_encoder_have_no_time(tmp_path: Path) -> None:
    vectors = write_vectors(tmp_path / "v.npy", np.random.default_rng(0).random((4, 8)).astype(np.float32))
    vectors.with_name("v.npy.json").unlink()
    build_index(open_vectors(vectors), tmp_path / "v.faiss.index", IndexSettings())
    labels = Labels(["a", "b"], np.repeat(np.eye(2, dtype=bool), 2, axis=0))
    own = own_figures(Gallery.open(tmp_path / "v.faiss.index"), labels, np.arange(4), 2)
    assert own.milliseconds is None and own.d == 8
    raw = answer_quality(normalise(np.load(vectors)), labels, np.arange(4), 2)
    np.testing.assert_array_equal(own.quality.found, raw.found)


def test_own_figures_are_of_the_centred_cosine_whatever_the_index(tmp_path: Path) -> None:
    rows = (np.random.default_rng(0).random((30, 8)) + 1).astype(np.float32)
    build_index(
        open_vectors(write_vectors(tmp_path / "v.npy", rows)), tmp_path / "v.faiss.index", IndexSettings(pca=None)
    )
    (tmp_path / "v.npy.json").unlink()
    labels = Labels(["a", "b"], np.repeat(np.eye(2, dtype=bool), 15, axis=0))
    own = own_figures(Gallery.open(tmp_path / "v.faiss.index"), labels, np.arange(30), 3)
    centred = normalise(rows) - normalise(rows).mean(axis=0)
    by_hand = answer_quality(normalise(centred), labels, np.arange(30), 3)
    np.testing.assert_array_equal(own.quality.found, by_hand.found)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_trying_the_gallerys_own_encoder_gives_its_own_quality(
    precision: str, gallery: Gallery, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = labels_of(gallery.names, "folders")
    assert labels is not None
    monkeypatch.setattr(runtimes, "processor_has_bf16", lambda: precision == "bf16")
    keep_agreement(encoder, f"OpenVINO bf16 on {platform.machine()}", 1)
    alone = open_runtime(encoder, "openvino", precision)
    pixels = np.stack([encoder.pixels(gallery.photo_path(row)) for row in range(75)])
    rows, steps = labels.labelled(), list[tuple[str, int, int]]()
    spec = EncoderSpec("mobilenet_v2", weights="none")
    tried = try_encoder(spec, gallery, labels, rows, 2, tmp_path, lambda *step: steps.append(step))
    assert steps[0] == ("encoding", 0, 75) and steps[-1] == ("encoding", 75, 75)
    steps.clear()
    tried = try_encoder(spec, gallery, labels, rows, 2, tmp_path, lambda *step: steps.append(step))
    assert steps == [], "the second time all vectors are there"
    vectors = alone.encode(pixels)
    own = answer_quality(normalise(normalise(vectors) - normalise(vectors).mean(axis=0)), labels, rows, 2)
    np.testing.assert_allclose(tried.quality.average_precision, own.average_precision, atol=0.02)
    assert tried.d == 1280 and tried.milliseconds > 0
    assert tried.name == f"mobilenet_v2, UNTRAINED weights, OpenVINO {precision}"
