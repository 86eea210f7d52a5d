from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from similar_images import distillation
from similar_images.distillation import Progress, distil
from similar_images.weights import import_keras, seeded

KIND = {"steps": 30, "batch_size": 16, "learning_rate": 0.02, "seed": 0}


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "CHECKPOINT_STEPS", 10)


def network() -> object:
    """A small network with a stride of 4, and its layer before the last."""
    keras = import_keras()
    with seeded():
        pixels = keras.Input((None, None, 3))
        earlier = keras.layers.Conv2D(12, 3, 2, padding="same", activation="relu")(pixels)
        last = keras.layers.Conv2D(16, 3, 2, padding="same", activation="relu")(earlier)
        return keras.Model(pixels, [last, earlier])


def crops(n: int = 64) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pictures of coloured squares, and the colour at each place, centred, as what is to be learnt."""
    colours = np.random.default_rng(0).integers(0, 256, (n, 7, 7, 3), np.uint8)
    pixels = colours.repeat(4, axis=1).repeat(4, axis=2)
    targets = np.concatenate([colours / 127.5 - 1, (colours / 127.5 - 1) ** 2 - 1 / 3], axis=-1)
    earlier = targets[..., :3].repeat(2, axis=1).repeat(2, axis=2)
    return pixels, [targets.astype(np.float16), earlier.astype(np.float16)]


def weights_after(progress: Iterator[Progress], trained: object) -> tuple[list[Progress], list[np.ndarray]]:
    return list(progress), trained.get_weights()


def unexplained(features: np.ndarray, wanted: np.ndarray) -> float:
    """The part of what is wanted that no linear map tells from features."""
    x = np.concatenate([features.reshape(-1, features.shape[-1]), np.ones((features[..., 0].size, 1))], axis=1)
    y = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
    return float(np.square(y - x @ np.linalg.lstsq(x, y)[0]).sum() / np.square(y).sum())


def test_network_comes_to_tell_what_is_wanted(tmp_path: Path) -> None:
    student = network()
    pixels, targets = crops()
    untrained = student.predict_on_batch(pixels / np.float32(127.5) - 1)
    progress = list(distil(student, *crops(), tmp_path, **KIND | {"steps": 200}))
    assert [each.step for each in progress] == list(range(10, 201, 10))
    assert progress[0].cosine < 0.5 and progress[-1].cosine > 0.9 and progress[-1].error < 0.5 * progress[0].error
    trained = student.predict_on_batch(pixels / np.float32(127.5) - 1)
    for before, after, target in zip(untrained, trained, targets, strict=True):
        assert unexplained(after, target) < 0.5 * unexplained(before, target)


def test_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, parts = network(), network()
    progress, expected = weights_after(distil(whole, *crops(), tmp_path / "a", **KIND), whole)
    assert next(distil(parts, *crops(), tmp_path / "b", **KIND)) == progress[0]
    again = network()
    rest, got = weights_after(distil(again, *crops(), tmp_path / "b", **KIND), again)
    assert [each.step for each in rest] == [20, 30]
    for one, two in zip(expected, got, strict=True):
        assert np.allclose(one, two, atol=1e-5)
