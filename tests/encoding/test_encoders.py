import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_vectors
from msgspec.structs import asdict
from msgspec.structs import replace as replace_fields
from PIL import Image

from similar_images.cards import EncoderCard, VectorsCard, write_card
from similar_images.encoding.encoders import (
    SIDES,
    Encoder,
    EncoderSpec,
    encoder_of_card,
    label,
    load_encoder,
    load_or_save_encoder,
    spec_of_card,
)  # fmt: skip
from similar_images.encoding.runtimes import open_runtime
from similar_images.encoding.tensorflow_runtime import TensorFlowRuntime
from similar_images.encoding.weights import EncoderError
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors


def batch(side: int = 224) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)


def test_vgg16_gives_dimension_4096_after_published_preprocessing(vgg16: Encoder) -> None:
    import keras
    from keras.applications.vgg16 import preprocess_input

    assert (vgg16.size, vgg16.dimension, vgg16.spec.layer) == ((224, 224), 4096, "fc2")
    network = vgg16.model.layers[-1]
    plain = keras.Model(network.input, network.get_layer("fc2").output)
    expected = plain.predict_on_batch(preprocess_input(batch().astype(np.float32)))
    assert np.allclose(TensorFlowRuntime(vgg16).encode(batch()), expected, atol=1e-4)


def test_vgg16_fc1_is_what_fc2_is_made_from(vgg16: Encoder) -> None:
    fc1 = load_encoder(EncoderSpec("vgg16", "fc1", "none"))
    below = TensorFlowRuntime(fc1).encode(batch())
    kernel, bias = vgg16.model.layers[-1].get_layer("fc2").get_weights()
    assert below.shape == (2, 4096)
    assert np.allclose(np.maximum(below @ kernel + bias, 0), TensorFlowRuntime(vgg16).encode(batch()), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "side", "dimension"),
    [("resnet50", 224, 2048), ("efficientnet_b1", 240, 1280), ("mobilenet_v2", 224, 1280), ("convnext_tiny", 224, 768)],
)
def test_application_by_its_usual_name_gives_pooled_vector(name: str, side: int, dimension: int) -> None:
    encoder = load_encoder(EncoderSpec(name, weights="none"))
    assert encoder.size == (side, side)
    assert TensorFlowRuntime(encoder).encode(batch(side)).shape == (2, dimension)


def test_untrained_encoder_is_always_the_same_and_labelled(encoder: Encoder) -> None:
    again = load_encoder(EncoderSpec("mobilenet_v2", weights="none"))
    assert again.weights_digest == encoder.weights_digest
    assert label(again.card(Path("x.npy"))) == "mobilenet_v2, UNTRAINED weights"


def test_joined_encoders_concatenate_unit_vectors() -> None:
    spec = EncoderSpec("mobilenet_v2+efficientnet_b1", weights="none")
    joined = load_encoder(spec)
    assert joined.size == (240, 240)  # the larger one's
    vectors = TensorFlowRuntime(joined).encode(batch(240))
    assert vectors.shape == (2, 2560)
    assert np.allclose(np.linalg.norm(vectors.reshape(2, 2, 1280), axis=2), 1, atol=1e-4)
    alone = TensorFlowRuntime(load_encoder(EncoderSpec("efficientnet_b1", weights="none"))).encode(batch(240))
    assert np.allclose(vectors[:, 1280:], alone / np.linalg.norm(alone, axis=1, keepdims=True), atol=1e-4)


def test_joined_encoder_gives_the_smaller_one_averaged_pixels_with_either_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SIDES, "MobileNetV2", 112)
    joined = load_encoder(EncoderSpec("mobilenet_v2+mobilenet", weights="none"))
    pixels = batch(112).repeat(2, axis=1).repeat(2, axis=2)  # every pixel four times: their mean is known
    alone = load_encoder(EncoderSpec("mobilenet_v2", weights="none")).model(batch(112)).numpy()
    for name in ("openvino", "tensorflow"):
        vectors = open_runtime(joined, name, "f32").encode(pixels)
        assert vectors.shape == (2, 1280 + 1024)
        assert np.allclose(vectors[:, :1280], alone / np.linalg.norm(alone, axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (EncoderSpec("vgg17"), "no encoder 'vgg17'.*vgg16"),
        (EncoderSpec("compact"), "no longer part of this project, its successor is efficientnet_lite0"),
        (EncoderSpec("mobilenet_v2+compact"), "no longer part of this project, its successor is efficientnet_lite0"),
        (EncoderSpec("resnet50", "fc1", "none"), "no layer fc1"),
        (EncoderSpec("vgg16", "conv1", "none"), "no layer 'conv1'"),
        (EncoderSpec("vgg16+vgg19+resnet50"), "two encoders can be joined"),
        (EncoderSpec("mobilenet_v2", weights="missing.h5"), "no weights file missing.h5"),
        (EncoderSpec("x", model_file=Path("missing.keras")), "no model file"),
    ],
)
def test_load_encoder_of_what_is_not_there_says_so(spec: EncoderSpec, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason):
        load_encoder(spec)


def test_load_or_save_encoder_saves_once_and_refuses_another(tmp_path: Path) -> None:
    file = tmp_path / "model.keras"
    spec = EncoderSpec("mobilenet_v2", weights="none")
    made = load_or_save_encoder(spec, file)
    written = file.stat().st_mtime_ns
    loaded = load_or_save_encoder(spec, file)
    assert file.stat().st_mtime_ns == written and loaded.weights_digest == made.weights_digest
    assert np.array_equal(TensorFlowRuntime(made).encode(batch()), TensorFlowRuntime(loaded).encode(batch()))
    with pytest.raises(EncoderError, match="holds mobilenet_v2 with weights none, not vgg16 fc2"):
        load_or_save_encoder(EncoderSpec("vgg16"), file)
    with pytest.raises(EncoderError, match=r"ends in \.keras"):
        load_or_save_encoder(spec, tmp_path / "model.txt")


def test_encoder_survives_its_card(tmp_path: Path) -> None:
    encoder = load_or_save_encoder(EncoderSpec("mobilenet_v2", weights="none"), tmp_path / "model.keras")
    card = encoder.card(tmp_path / "vectors" / "x.npy")
    assert card.model_file == "../model.keras"
    again = load_encoder(spec_of_card(card, tmp_path / "vectors" / "x.npy"))
    assert again.weights_digest == encoder.weights_digest
    (tmp_path / "model.keras").unlink()  # it can be made again
    assert spec_of_card(card, tmp_path / "vectors" / "x.npy").model_file is None


@pytest.mark.parametrize("name", ["compact", "compact+mobilenet_v2"])
def test_gallery_of_the_compact_encoder_is_searched_by_its_own_photos_only(name: str, tmp_path: Path) -> None:
    vectors, index = tmp_path / "v.npy", tmp_path / "v.faiss.index"
    write_vectors(vectors, np.random.default_rng(0).random((8, 256), np.float32))
    made = EncoderCard(encoder=name, weights="imagenet", weights_digest="0" * 64, size=(112, 112), d=256)
    write_card(vectors, replace_fields(open_vectors(vectors).card, **asdict(made)))
    build_index(open_vectors(vectors), index, IndexSettings())
    gallery = Gallery.open(index)
    assert [hit.image_id for hit in gallery.search(3, k=1)] == [3]
    with pytest.raises(EncoderError, match="its successor is efficientnet_lite0: 'make demo' makes a gallery again"):
        gallery.search(Image.new("RGB", (20, 20)))


def test_card_keeps_a_weights_file_with_a_plus_in_its_name(tmp_path: Path, encoder: Encoder) -> None:
    spec = EncoderSpec("mobilenet_v2", weights=str(tmp_path / "a+b.h5"))
    card = replace(encoder, spec=spec).card(tmp_path / "v.npy")
    assert card.weights == "a+b.h5" and spec_of_card(card, tmp_path / "v.npy") == spec


def test_own_model_file_is_taken_as_it_is(tmp_path: Path) -> None:
    import keras

    taken = keras.Input((32, 48, 3))
    model = keras.Model(taken, keras.layers.GlobalAveragePooling2D()(taken))
    model.save(tmp_path / "mean.keras")
    encoder = load_or_save_encoder(EncoderSpec(), tmp_path / "mean.keras")
    assert (encoder.size, encoder.dimension, encoder.spec.name) == ((48, 32), 3, "mean.keras")
    pixels = encoder.pixels(Image.new("RGB", (10, 10), (255, 128, 0)))
    assert np.allclose(TensorFlowRuntime(encoder).encode(pixels[None]), [[255, 128, 0]])


def test_model_file_with_a_plus_in_its_name_is_one_encoder(small_model: Path, tmp_path: Path) -> None:
    file = small_model.rename(tmp_path / "a+b+none.keras")
    encoder = load_or_save_encoder(EncoderSpec(), file)
    card = encoder.card(tmp_path / "v.npy")
    assert (card.encoder, card.weights, card.trained) == ("a+b+none.keras", "a+b+none.keras", True)
    assert spec_of_card(card, tmp_path / "v.npy") == encoder.spec
    assert encoder_of_card(card, tmp_path / "v.npy").model.output_shape == (None, 16)


def test_model_file_that_was_replaced_is_not_even_loaded(small_model: Path, tmp_path: Path) -> None:
    card = load_or_save_encoder(EncoderSpec(), small_model).card(tmp_path / "v.npy")
    write_card(tmp_path / "v.npy", VectorsCard(**asdict(card), n=1))
    small_model.write_text("another model")
    code = (
        "import sys; from pathlib import Path; from similar_images.cards import *; "
        "from similar_images.encoding.encoders import *; path = Path(sys.argv[1])\n"
        "try: encoder_of_card(read_card(path, VectorsCard), path).model\n"
        "except EncoderError as error: print(error, 'keras' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "v.npy")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "small.keras is not the model that made the vectors any more: put back the old one" in done.stdout
    assert done.stdout.endswith(" False\n")


def test_model_file_of_another_kind_is_refused_with_reason(tmp_path: Path) -> None:
    import keras

    taken = keras.Input((8, 8, 1))
    keras.Model(taken, keras.layers.GlobalAveragePooling2D()(taken)).save(tmp_path / "grey.keras")
    colour = keras.Input((8, 8, 3))
    keras.Model(colour, keras.layers.Conv2D(4, 3)(colour)).save(tmp_path / "map.keras")
    (tmp_path / "text.keras").write_text("no model")
    code = keras.layers.Lambda(lambda maps: maps[:, 0, 0])
    keras.Model(colour, code(colour)).save(tmp_path / "code.keras")
    for name, reason in {
        "grey": "does not take RGB",
        "map": "does not give a vector",
        "text": "not a Keras model",
        "code": "not a Keras model .*Lambda",
    }.items():
        with pytest.raises(EncoderError, match=reason):
            load_encoder(EncoderSpec(model_file=tmp_path / f"{name}.keras"))


def test_encoder_of_pixels_resizes_by_its_rule(photo: Path, encoder: Encoder) -> None:
    pixels = encoder.pixels(photo)
    assert pixels.shape == (224, 224, 3) and pixels.dtype == np.uint8
