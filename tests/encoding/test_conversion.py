import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from similar_images.cards import ConvertedCard, read_card, write_card
from similar_images.encoding import conversion
from similar_images.encoding.encoders import Encoder, EncoderSpec, load_encoder, load_or_save_encoder
from similar_images.encoding.runtimes import open_runtime
from similar_images.encoding.weights import EncoderError

SPEC = EncoderSpec("mobilenet_v2", weights="none")


def black(encoder: Encoder) -> np.ndarray:
    return open_runtime(encoder, "openvino", "f32").encode(np.zeros((1, 224, 224, 3), np.uint8))


def test_model_file_keeps_its_conversion_beside_it_and_opens_without_tensorflow(tmp_path: Path) -> None:
    file = tmp_path / "a model+.keras"
    expected = black(load_or_save_encoder(SPEC, file))
    assert len(list(tmp_path.glob("mobilenet_v2-*.xml"))) == 1
    code = (
        "import sys, numpy as np; from pathlib import Path; from similar_images.encoding.encoders import *; "
        "from similar_images.encoding.runtimes import open_runtime; "
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


@pytest.mark.parametrize("suffix", ["bin", "xml", "xml.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_damaged_conversion_is_made_again(suffix: str, damage: str, small_model: Path) -> None:
    encoder = load_or_save_encoder(EncoderSpec(), small_model)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    expected = open_runtime(encoder, "openvino", "f32").encode(pixels)
    (file,) = small_model.parent.glob(f"small.keras-????????????????.{suffix}")
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.unlink()
    if damage != "removed":
        file.write_bytes(
            whole[:middle] + (b"" if damage == "cut" else bytes([whole[middle] ^ 64]) + whole[middle + 1 :])
        )
    assert np.array_equal(open_runtime(encoder, "openvino", "f32").encode(pixels), expected)
    assert file.stat().st_size > middle, "it is whole again"


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a" * 300, "b\nc/\u65e5", ".."])
def test_conversion_stays_in_its_folder_whatever_the_encoder_is_called(name: str, small_model: Path) -> None:
    inside = small_model.parent / "inside"
    inside.mkdir()
    file = small_model.rename(inside / "small.keras")
    encoder = load_encoder(EncoderSpec(name, weights=str(file), model_file=file))
    before = set(inside.parent.rglob("*")) | set(Path("/").glob("*"))
    conversion.converted(encoder)
    made = (set(inside.parent.rglob("*")) | set(Path("/").glob("*"))) - before
    assert {file.parent for file in made} == {inside} and len(made) == 3


@pytest.mark.parametrize("name", ["openvino", "tensorflow"])
def test_what_a_runtime_raises_is_an_encoder_error(name: str, encoder: Encoder) -> None:
    runtime, small = open_runtime(encoder, name, "f32"), np.zeros((1, 10, 10, 3), np.uint8)
    with pytest.raises(EncoderError, match=r"can't run mobilenet_v2 \(.*\): give"):
        runtime.encode(small)
    with pytest.raises(EncoderError, match=r"can't run mobilenet_v2 \(.*\): give"):
        list(runtime.encode_all([(0, small)]))


def test_conversion_beside_a_model_that_may_not_be_written_to_goes_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder can be made here")
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path / "cache"))
    vector = black(load_encoder(SPEC))  # nowhere to keep it: it runs all the same
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path / "deeper" / "cache"))
    assert np.array_equal(black(load_encoder(SPEC)), vector)
    assert [file.suffix for file in sorted((tmp_path / "deeper" / "cache").iterdir())] == [".bin", ".xml", ".json"]


def test_converted_encoder_of_another_keras_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILAR_IMAGES_CACHE", str(tmp_path))
    black(load_encoder(SPEC))
    assert conversion.converted_before(SPEC) is not None
    file = next(tmp_path.glob("*.xml"))
    card = read_card(file, ConvertedCard)
    card.keras = "2.0"
    write_card(file, card)
    assert conversion.converted_before(SPEC) is None


def test_encoder_whose_weights_changed_under_its_card_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.keras"
    known = load_or_save_encoder(SPEC, file)
    model = known.model
    model.set_weights([2 * weight for weight in model.get_weights()])
    file.unlink()
    model.save(file)
    again = load_or_save_encoder(SPEC, file)  # the file is not the one that its card was written for
    assert again.weights_digest != known.weights_digest
