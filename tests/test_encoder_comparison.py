import platform
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from similar_images import runtimes
from similar_images.answer_quality import answer_quality, centred
from similar_images.conversion import keep_agreement
from similar_images.encoder_comparison import spec_of_words, try_encoder
from similar_images.encoders import Encoder, EncoderSpec
from similar_images.gallery import Gallery
from similar_images.labels import labels_of
from similar_images.runtimes import open_runtime


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        ("resnet50", EncoderSpec("resnet50")),
        ("vgg16:fc1", EncoderSpec("vgg16", "fc1")),
        ("vgg16:fc1=none", EncoderSpec("vgg16", "fc1", "none")),
        ("mobilenet_v2=/some/file.keras", EncoderSpec("mobilenet_v2", weights="/some/file.keras")),
    ],
)
def test_spec_of_words(words: str, spec: EncoderSpec) -> None:
    assert spec_of_words(words) == spec


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
    rows, done = labels.labelled(), list[int]()
    spec = EncoderSpec("mobilenet_v2", weights="none")
    for _ in range(2):
        done.clear()
        tried = try_encoder(spec, gallery, labels, rows, 2, tmp_path, lambda photos: nullcontext(done.append))
        assert sum(done) == 75
    assert done == [75], "the second time all vectors are there"
    vectors = alone.encode(pixels)
    own = answer_quality(centred(vectors)(vectors), labels, rows, 2)
    np.testing.assert_allclose(tried.quality.average_precision, own.average_precision, atol=0.02)
    assert tried.d == 1280 and tried.milliseconds > 0
    assert tried.name == f"mobilenet_v2, UNTRAINED weights, OpenVINO {precision}"
