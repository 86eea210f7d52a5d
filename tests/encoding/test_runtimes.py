import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from similar_images.encoding import conversion, runtimes
from similar_images.encoding.encoders import Encoder, EncoderSpec, load_or_save_encoder
from similar_images.encoding.runtimes import (
    Runtime,
    choose,
    open_runtime,
    open_runtime_for_queries,
    processor_has_bf16,
)
from similar_images.encoding.tensorflow_runtime import TensorFlowRuntime, batch_size_for
from similar_images.encoding.weights import EncoderError
from similar_images.extraction.extraction import sample_photos
from similar_images.photos.file_list import list_photos
from similar_images.photos.images import Pixels

HERE = {"gpu": False, "openvino": True, "bf16": True}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def pixels(photos: Path, encoder: Encoder) -> Pixels:
    return sample_photos(list_photos(photos), photos, encoder, 12)


@pytest.mark.parametrize(
    ("asked", "machine", "chosen"),
    [
        (("auto", "auto"), {}, ("openvino", ["bf16", "f32"])),
        (("auto", "auto"), {"bf16": False}, ("openvino", ["f32"])),
        (("auto", "auto"), {"gpu": True}, ("tensorflow", ["f16", "f32"])),
        (("auto", "f32"), {"gpu": True}, ("tensorflow", ["f32"])),
        (("openvino", "auto"), {"gpu": True}, ("openvino", ["bf16", "f32"])),
        (("auto", "auto"), {"openvino": False}, ("tensorflow", ["f32"])),
        (("tensorflow", "bf16"), {}, ("tensorflow", ["bf16"])),
        (("auto", "int8"), {"bf16": False}, ("openvino", ["int8"])),
        (("auto", "int8"), {"gpu": True}, ("openvino", ["int8"])),
    ],
)
def test_choose_takes_what_the_machine_is_best_at(asked: tuple, machine: dict, chosen: tuple) -> None:
    assert choose(*asked, **(HERE | machine)) == chosen


@pytest.mark.parametrize(
    ("asked", "machine", "reason"),
    [
        (("openvino", "auto"), {"openvino": False}, "OpenVINO is not installed.*--runtime tensorflow"),
        (("auto", "bf16"), {"bf16": False}, "does not calculate in bf16.*auto"),
        (("tensorflow", "int8"), {}, "does not run int8"),
        (("auto", "int8"), {"openvino": False}, "does not run int8"),
        (("auto", "bf16"), {"gpu": True}, "on a GPU"),
    ],
)
def test_choose_of_what_is_not_there_says_what_to_do(asked: tuple, machine: dict, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason):
        choose(*asked, **(HERE | machine))


def test_runtimes_agree_whatever_the_batch(encoder: Encoder, pixels: Pixels) -> None:
    expected = encoder.model(pixels).numpy()
    for name in ("openvino", "tensorflow"):
        runtime = open_runtime(encoder, name, "f32")
        for size in (1, 5, 12):
            batches = [pixels[start : start + size] for start in range(0, 12, size)]
            vectors = np.concatenate([runtime.encode(batch) for batch in batches])
            assert vectors.dtype == np.float32 and vectors.shape == (12, 1280)
            assert cosines(vectors, expected).min() > 0.99999


@pytest.mark.parametrize("name", ["openvino", "tensorflow"])
def test_encode_all_gives_every_batch_its_own_vectors_in_order(name: str, encoder: Encoder, pixels: Pixels) -> None:
    runtime = open_runtime(encoder, name, "f32")
    given = [(tag, pixels[[tag % 12, (tag + 1) % 12]]) for tag in range(20)]
    done = list(runtime.encode_all(iter(given)))
    assert [tag for tag, _ in done] == list(range(20))
    for (_, vectors), (_, batch) in zip(done, given, strict=True):
        assert np.array_equal(vectors, runtime.encode(batch))


def test_encode_all_reads_ahead_of_what_it_gives_back(encoder: Encoder, pixels: Pixels) -> None:
    fetched = []

    def batches() -> Iterator[tuple[int, Pixels]]:
        for tag in range(10):
            fetched.append(tag)
            yield tag, pixels[:1]

    next(open_runtime(encoder, "openvino", "f32").encode_all(batches()))
    assert fetched == [0, 1, 2, 3]


@pytest.fixture
def small(small_model: Path) -> Encoder:
    return load_or_save_encoder(EncoderSpec(), small_model)


def test_auto_takes_bf16_where_photos_show_that_vectors_stay_the_same(
    small: Encoder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "processor_has_bf16", lambda: True)
    sample = sample_photos(list_photos(photos), photos, small, 16)
    asked = []
    assert open_runtime(small, photos=lambda count: asked.append(count) or sample).precision == "bf16"
    assert asked == [16] and open_runtime(small).precision == "bf16"  # noted: no photos are needed now
    quick, exact = (open_runtime(small, precision=each).encode(sample) for each in ("bf16", "f32"))
    assert cosines(quick, exact).min() > 0.999 and np.array_equal(quick, exact) != processor_has_bf16()
    conversion.keep_agreement(small, f"OpenVINO bf16 on {platform.machine()}", 0.98)
    assert open_runtime(small).precision == "f32"


@pytest.mark.parametrize(("bf16", "precision"), [(False, "int8"), (True, "int8+bf16")])
def test_int8_is_calibrated_once_and_then_opened_for_queries_too(
    bf16: bool, precision: str, small: Encoder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "processor_has_bf16", lambda: bf16)
    sample, asked, vectors = sample_photos(list_photos(photos), photos, small, 75), [], tmp_path / "v.npy"
    file = conversion.int8_file(vectors, small)

    def given(count: int) -> Pixels:
        asked.append(count)
        return sample[:count]

    runtime = open_runtime(small, precision="int8", photos=given, int8_model=file)
    quick, exact = runtime.encode(sample), open_runtime(small, precision="f32").encode(sample)
    assert runtime.precision == precision and asked[-1] == conversion.CALIBRATION_PHOTOS
    assert not np.array_equal(quick, exact) and cosines(quick, exact).min() > 0.98
    written = file.stat().st_mtime_ns
    for again in (
        open_runtime(small, precision="int8", int8_model=file),
        open_runtime_for_queries(small, ["OpenVINO int8"], vectors),
    ):
        assert again.precision == precision and np.array_equal(again.encode(sample), quick)
    assert file.stat().st_mtime_ns == written


def test_int8_of_efficientnet_lite0_keeps_its_vectors(lite0: Encoder, photos: Path, tmp_path: Path) -> None:
    sample = sample_photos(list_photos(photos), photos, lite0, 75)
    quick = open_runtime(lite0, precision="int8", photos=lambda count: sample, int8_model=tmp_path / "int8.xml")
    exact = open_runtime(lite0, precision="f32").encode(sample)
    assert cosines(quick.encode(sample), exact).mean() > 0.98


def test_int8_without_nncf_says_how_to_get_it(small: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    black = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(EncoderError, match=r"pip install -r requirements-int8\.txt"):
        open_runtime(small, precision="int8", photos=lambda count: black, int8_model=tmp_path / "v.xml")


def test_auto_without_photos_or_a_note_is_exact(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "processor_has_bf16", lambda: True)
    assert open_runtime(encoder).precision == "f32"


@pytest.mark.parametrize("low", ["f32", "bf16"])
def test_runtime_for_queries_follows_the_gallery_where_the_processor_can(
    low: str, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "processor_has_bf16", lambda: low == "bf16")
    file = tmp_path / "v.npy"
    assert open_runtime_for_queries(encoder, [], file).precision == "f32"
    assert open_runtime_for_queries(encoder, ["OpenVINO f32", "OpenVINO bf16"], file).precision == "f32"
    assert open_runtime_for_queries(encoder, ["OpenVINO bf16"], file).precision == low
    for made_with in (["TensorFlow f16"], ["OpenVINO int8"]):  # no GPU here, and the int8 model is not there
        assert open_runtime_for_queries(encoder, made_with, file).precision == "f32"


def test_batch_size_for_a_gpu_is_a_power_of_two_that_fits() -> None:
    assert [batch_size_for(memory * 10**9, 60 * 10**6) for memory in (0, 1, 8, 24, 140)] == [1, 8, 64, 128, 512]


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_tensorflow_in_fewer_bits_gives_nearly_the_same_vectors(precision: str, small: Encoder) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    exact, quick = TensorFlowRuntime(small).encode(pixels), TensorFlowRuntime(small, precision).encode(pixels)
    assert quick.dtype == np.float32 and cosines(quick, exact).min() > 0.999
    assert precision == "bf16" or not np.array_equal(quick, exact)  # bf16 changes nothing where TensorFlow lacks it


def test_converted_encoder_is_found_again_without_keras(encoder: Encoder, cache: Path, pixels: Pixels) -> None:
    runtime: Runtime = open_runtime(encoder, "openvino", "f32")
    found = conversion.converted_before(EncoderSpec("mobilenet_v2", weights="none", resize="keras"))
    assert found is not None and found._loaded is None and found.spec.resize == "keras"
    assert (found.size, found.dimension) == (encoder.size, encoder.dimension)
    assert np.array_equal(open_runtime(found, "openvino", "f32").encode(pixels), runtime.encode(pixels))
    assert conversion.converted_before(EncoderSpec("resnet152", weights="none")) is None
