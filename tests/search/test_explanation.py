import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from similar_images.encoding.encoders import Encoder, EncoderSpec
from similar_images.encoding.runtimes import Runtime, open_runtime
from similar_images.encoding.weights import EncoderError
from similar_images.search.explanation import explain, heat_maps, spotlights
from similar_images.search.gallery import Gallery
from similar_images.store.measure import Measure

RAW = Measure.raw(3)


def test_heat_maps_show_the_regions_that_agree() -> None:
    query, hit = np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    query[0, 0], query[1, 1] = [1, 0, 0], [0, 1, 0]
    hit[0, 1], hit[1, 0] = [1, 0, 0], [0, 0, 1]
    of_query, of_hit = heat_maps(RAW, query, hit)
    np.testing.assert_allclose(of_query, [[0.5, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(of_hit, [[0, 0.5], [0, 0]], atol=1e-6)


def test_heat_maps_of_nothing_seen_are_zero() -> None:
    nothing = np.zeros((7, 7, 3), np.float32)
    assert not np.any(heat_maps(RAW, nothing, nothing + 1))


@pytest.mark.parametrize(
    ("kind", "focus"), [("index_file", 0), ("index_file", 0.1), ("index_file", -0.3), ("raw_index", 0)]
)
def test_heat_adds_up_to_the_similarity_where_the_encoder_averages(
    request: pytest.FixtureRequest, runtime: Runtime, kind: str, focus: float
) -> None:
    opened = Gallery.open(request.getfixturevalue(kind))
    query, hit = opened.photo_path(0), opened.photo_path(40)
    vector = runtime.encode(runtime.encoder.pixels(query)[None])[0]
    similarity = 1 - opened.distances(vector, [40], focus)[0] / 2
    for heat in explain(runtime, opened.measure, query, hit, focus):
        assert heat.shape == (7, 7) and heat.sum() == pytest.approx(similarity, abs=1e-4)


def test_explain_of_vgg16_sees_its_last_convolution(gallery: Gallery, vgg16: Encoder) -> None:
    runtime = open_runtime(vgg16, precision="f32")
    for heat in explain(runtime, gallery.measure, gallery.photo_path(0), gallery.photo_path(0)):
        assert heat.shape == (7, 7) and heat.sum() == pytest.approx(1, abs=2e-3)


def test_explain_of_joined_encoders_is_refused(
    runtime: Runtime, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "encoder", replace(runtime.encoder, spec=EncoderSpec("mobilenet_v2+mobilenet")))
    with pytest.raises(EncoderError, match="only a single encoder"):
        explain(runtime, gallery.measure, gallery.photo_path(0), gallery.photo_path(1))


def test_spotlights_are_bright_where_the_heat_is() -> None:
    photo = Image.new("RGB", (90, 60), (200, 200, 200))
    heat = np.zeros((2, 3), np.float32)
    heat[0, 0] = 0.4
    lit, dark = (np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in spotlights([photo, photo], [heat, heat * 0], 90))
    assert lit.shape == (60, 90, 3) and lit[5, 5].min() > 180 and lit[55, 85].max() < 60 and dark.max() < 60


def test_spotlights_of_what_is_not_similar_are_dark() -> None:
    photo = Image.new("RGB", (90, 60), (200, 200, 200))
    (dark,) = spotlights([photo], [np.full((2, 3), -0.01, np.float32)], 90)
    assert np.asarray(Image.open(io.BytesIO(dark))).max() < 60
