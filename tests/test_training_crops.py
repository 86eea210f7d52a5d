from pathlib import Path

import numpy as np
import pytest

from similar_images import training_crops
from similar_images.encoders import EncoderSpec, load_encoder
from similar_images.openvino_runtime import OpenVINORuntime
from similar_images.runtimes import open_runtime
from similar_images.training_crops import prepare_crops, read_crops

SIZES = {"side": 32, "places": 2, "d": 8, "seed": 0}


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_crops, "BLOCK", 16)


@pytest.fixture(scope="module")
def teacher() -> OpenVINORuntime:
    runtime = open_runtime(load_encoder(EncoderSpec("compact")), "openvino", "f32")
    assert isinstance(runtime, OpenVINORuntime)
    return runtime


@pytest.fixture
def paths(photos: Path) -> list[Path]:
    return sorted(photos.glob("*/*.jpg"))


def test_crops_come_with_what_the_teacher_sees(paths: list[Path], teacher: OpenVINORuntime, tmp_path: Path) -> None:
    done: list[int] = []
    prepare_crops(paths, teacher, tmp_path, count=30, progress=done.append, **SIZES)
    pixels, targets = read_crops(tmp_path, 30)
    assert pixels.shape == (32, 32, 32, 3) and pixels.dtype == np.uint8 and targets.shape == (32, 2, 2, 8)
    assert done == [16, 16] and len({crop.tobytes() for crop in pixels}) == 32
    with np.load(tmp_path / "components.npz") as components:
        assert np.allclose(components["directions"] @ components["directions"].T, np.eye(8), atol=1e-4)
    centre = np.abs(targets.astype(np.float32).mean(axis=(0, 1, 2)))
    assert (centre < targets.astype(np.float32).std(axis=(0, 1, 2))).all()


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
    for one, two in zip(read_crops(tmp_path / "a", 48), read_crops(tmp_path / "b", 48), strict=True):
        assert np.array_equal(one, two)


def test_targets_are_the_reduced_vector_of_an_encoder_that_does_not_average_places(
    paths: list[Path], teacher: OpenVINORuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "regions", lambda pixels: np.zeros((len(pixels), 7, 7, 3), np.float32))
    prepare_crops(paths, teacher, tmp_path, count=16, **SIZES)
    targets = read_crops(tmp_path, 16)[1]
    assert np.array_equal(targets, np.broadcast_to(targets[:, :1, :1], targets.shape)) and targets.std() > 0
