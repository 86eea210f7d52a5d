from pathlib import Path

import numpy as np
import pytest

from similar_images import training_crops
from similar_images.encoders import Encoder, EncoderSpec, load_encoder
from similar_images.openvino_runtime import OpenVINORuntime
from similar_images.runtimes import open_runtime
from similar_images.training_crops import Level, prepare_crops, read_crops
from similar_images.weights import import_keras, seeded

SIZES = {"side": 32, "levels": (Level(2, 8), Level(8, 5)), "seed": 0}


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_crops, "BLOCK", 16)


@pytest.fixture(scope="module")
def teacher(compact: Encoder) -> OpenVINORuntime:
    runtime = open_runtime(compact, "openvino", "f32")
    assert isinstance(runtime, OpenVINORuntime)
    return runtime


@pytest.fixture(scope="module")
def averaging(tmp_path_factory: pytest.TempPathFactory) -> OpenVINORuntime:
    """A small encoder whose vector is the mean of its 7 by 7 places, as those of most are."""
    layers = import_keras().layers
    with seeded():
        pixels = import_keras().Input((56, 56, 3))
        earlier = layers.Conv2D(12, 4, 4, activation="relu")(layers.Rescaling(1 / 255)(pixels))
        places = layers.Conv2D(20, 2, 2, activation="relu")(earlier)
        model = import_keras().Model(pixels, layers.GlobalAveragePooling2D()(places))
    model.save(file := tmp_path_factory.mktemp("averaging") / "own.keras")
    runtime = open_runtime(load_encoder(EncoderSpec("own", model_file=file)), "openvino", "f32")
    assert isinstance(runtime, OpenVINORuntime)
    return runtime


@pytest.fixture
def paths(photos: Path) -> list[Path]:
    return sorted(photos.glob("*/*.jpg"))


def test_crops_come_with_what_the_teacher_sees(paths: list[Path], teacher: OpenVINORuntime, tmp_path: Path) -> None:
    done: list[int] = []
    prepare_crops(paths, teacher, tmp_path, count=30, progress=done.append, **SIZES)
    pixels, (targets, earlier) = read_crops(tmp_path, 30)
    assert pixels.shape == (32, 32, 32, 3) and pixels.dtype == np.uint8
    assert targets.shape == (32, 2, 2, 8) and earlier.shape == (32, 8, 8, 5)
    assert done == [16, 16] and len({crop.tobytes() for crop in pixels}) == 32
    with np.load(tmp_path / "components.npz") as components:
        for directions, d in zip(list(components.values())[1::2], (8, 5), strict=True):
            assert np.allclose(directions @ directions.T, np.eye(d), atol=1e-4)
    for maps in (targets.astype(np.float32), earlier.astype(np.float32)):
        assert (np.abs(maps.mean(axis=(0, 1, 2))) < maps.std(axis=(0, 1, 2))).all()


def test_targets_are_the_teachers_features_of_the_very_crop(
    paths: list[Path], averaging: OpenVINORuntime, tmp_path: Path
) -> None:
    prepare_crops(paths, averaging, tmp_path, side=56, levels=(Level(7, 12), Level(14, 8)), count=16, seed=0)
    pixels, targets = read_crops(tmp_path, 16)
    with np.load(tmp_path / "components.npz") as components:
        last_mean, last, earlier_mean, earlier = components.values()
    expected = averaging.feature_maps(pixels, (7, 14))
    assert expected[0].shape == (16, 7, 7, 20) and expected[1].shape == (16, 14, 14, 12)
    assert np.allclose(targets[0], (expected[0] - last_mean) @ last.T, atol=1e-3)
    assert np.allclose(targets[1], (expected[1] - earlier_mean) @ earlier.T, atol=1e-3)
    assert targets[0].astype(np.float32).std() > 0.05


def test_stopped_preparation_goes_on_with_the_same_crops(
    paths: list[Path], teacher: OpenVINORuntime, tmp_path: Path
) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_crops(paths, teacher, tmp_path / "a", count=48, progress=stop, **SIZES)
    first = (tmp_path / "a" / "crops-0000.npz").stat().st_mtime_ns
    prepare_crops(paths, teacher, tmp_path / "a", count=48, **SIZES)
    assert (tmp_path / "a" / "crops-0000.npz").stat().st_mtime_ns == first
    prepare_crops(paths, teacher, tmp_path / "b", count=48, **SIZES)
    (pixels, targets), (again, targets_again) = read_crops(tmp_path / "a", 48), read_crops(tmp_path / "b", 48)
    for one, two in zip([pixels, *targets], [again, *targets_again], strict=True):
        assert np.array_equal(one, two)


def test_targets_are_the_reduced_vector_of_an_encoder_that_does_not_average_places(
    paths: list[Path], teacher: OpenVINORuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "encode", lambda pixels: pixels.mean(axis=(1, 2)) / np.float32(255))
    prepare_crops(paths, teacher, tmp_path, side=32, levels=(Level(2, 3), Level(8, 5)), count=16, seed=0)
    targets = read_crops(tmp_path, 16)[1][0]
    assert np.array_equal(targets, np.broadcast_to(targets[:, :1, :1], targets.shape)) and targets.std() > 0
