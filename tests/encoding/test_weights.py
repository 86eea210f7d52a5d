from pathlib import Path

import keras
import pytest
from http_server import serve
from keras.src.applications import mobilenet_v2

from similar_images.encoding.encoders import EncoderSpec, load_encoder
from similar_images.encoding.weights import EncoderError, WeightsUnavailableError

NAME = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights files in every form, of a network with weights of its own."""
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(7)
    network = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    network.save_weights(folder / "own.weights.h5")
    network.save(folder / NAME)
    network.save(folder / "own.keras")
    return folder


def test_weights_of_every_form_are_the_same(trained: Path) -> None:
    digests = {
        load_encoder(EncoderSpec("mobilenet_v2", weights=str(trained / name))).weights_digest
        for name in ("own.weights.h5", NAME, "own.keras")
    }
    untrained = load_encoder(EncoderSpec("mobilenet_v2", weights="none")).weights_digest
    assert len(digests) == 1 and untrained not in digests


def test_weights_of_another_network_are_refused(trained: Path) -> None:
    with pytest.raises(EncoderError, match=r"does not hold the weights of ResNet50\("):
        load_encoder(EncoderSpec("resnet50", weights=str(trained / "own.weights.h5")))


def test_imagenet_weights_are_downloaded_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    with serve(trained) as (address, asked):
        monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", f"{address}/")
        expected = load_encoder(EncoderSpec("mobilenet_v2", weights=str(trained / NAME))).weights_digest
        for _ in range(2):
            assert load_encoder(EncoderSpec("mobilenet_v2")).weights_digest == expected
    assert [path for path, _ in asked] == [f"/{NAME}"]
    assert capsys.readouterr().out == ""


def test_imagenet_weights_that_cannot_be_had_are_told_with_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    with serve(tmp_path) as (address, _):
        monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", f"{address}/")
        with pytest.raises(WeightsUnavailableError) as caught:
            load_encoder(EncoderSpec("mobilenet_v2"))
    for part in (f"{address}/{NAME}", str(tmp_path / "models"), "--weights FILE", "--weights none"):
        assert part in str(caught.value)
    assert not (tmp_path / "models" / NAME).exists()
