import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from similar_images import conversion
from similar_images.cards import ConvertedCard, read_card, write_card
from similar_images.encoders import Encoder, EncoderSpec, load_encoder, load_or_save_encoder
from similar_images.runtimes import open_runtime

SPEC = EncoderSpec("mobilenet_v2", weights="none")


def black(encoder: Encoder) -> np.ndarray:
    return open_runtime(encoder, "openvino", "f32").encode(np.zeros((1, 224, 224, 3), np.uint8))


def test_model_file_keeps_its_conversion_beside_it_and_opens_without_tensorflow(tmp_path: Path) -> None:
    file = tmp_path / "a model+.keras"
    expected = black(load_or_save_encoder(SPEC, file))
    assert len(list(tmp_path.glob("mobilenet_v2-*.xml"))) == 1
    code = (
        "import sys, numpy as np; from pathlib import Path; from similar_images.encoders import *; "
        "from similar_images.runtimes import open_runtime; "
        "encoder = load_or_save_encoder(EncoderSpec('mobilenet_v2', weights='none'), Path(sys.argv[1])); "
        "vector = open_runtime(encoder, 'openvino', 'f32').encode(np.zeros((1, 224, 224, 3), np.uint8)); "
        "np.save(sys.argv[2], vector); print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file, tmp_path / "v.npy"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n" and np.array_equal(np.load(tmp_path / "v.npy"), expected)


def test_model_file_with_other_weights_is_never_taken_for_its_old_conversion(tmp_path: Path) -> None:
    import keras

    taken = keras.Input((32, 32, 3))
    vectors = []
    for scale in (1.0, 3.0):  # no weights differ, only the graph
        spread = keras.layers.Rescaling(scale, offset=7.0)(taken)
        keras.Model(taken, keras.layers.GlobalAveragePooling2D()(spread)).save(tmp_path / "own.keras")
        encoder = load_or_save_encoder(EncoderSpec(), tmp_path / "own.keras")
        vectors.append(open_runtime(encoder, "openvino", "f32").encode(np.full((1, 32, 32, 3), 100, np.uint8)))
    assert np.allclose(vectors, [[[107.0] * 3], [[307.0] * 3]])


def test_damaged_conversion_is_made_again(tmp_path: Path) -> None:
    encoder = load_or_save_encoder(SPEC, tmp_path / "m.keras")
    expected = black(encoder)
    weights = next(tmp_path.glob("*.bin"))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert np.array_equal(black(encoder), expected) and weights.stat().st_size > 1000


def test_conversion_beside_a_model_that_may_not_be_written_to_goes_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder can be made here")
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path / "cache"))
    vector = black(load_encoder(SPEC))  # nowhere to keep it: it runs all the same
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path / "deeper" / "cache"))
    assert np.array_equal(black(load_encoder(SPEC)), vector)
    assert [file.suffix for file in sorted((tmp_path / "deeper" / "cache").iterdir())] == [".bin", ".xml", ".json"]


def test_remembered_encoder_of_another_keras_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path))
    black(load_encoder(SPEC))
    assert conversion.remembered(SPEC) is not None
    file = next(tmp_path.glob("*.xml"))
    card = read_card(file, ConvertedCard)
    card.keras = "2.0"
    write_card(file, card)
    assert conversion.remembered(SPEC) is None


def test_encoder_whose_weights_changed_under_its_card_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.keras"
    known = load_or_save_encoder(SPEC, file)
    model = known.model
    model.set_weights([2 * weight for weight in model.get_weights()])
    file.unlink()
    model.save(file)
    again = load_or_save_encoder(SPEC, file)  # the file is not the one that its card was written for
    assert again.weights_digest != known.weights_digest
