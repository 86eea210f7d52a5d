import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run

from similar_images.compact import included_digest
from similar_images.encoders import EncoderSpec, load_encoder
from train_compact_encoder import precision, split

TRAIN = "train_compact_encoder.py"
SMALL = (
    "--teacher",
    "compact",
    "--weights",
    "imagenet",
    "--crops",
    "1024",
    "--steps",
    "4",
    "--batch_size",
    "8",
    "--hold_out",
    "2",
)


def test_training_that_was_stopped_goes_on_to_weights_that_an_encoder_takes(photos: Path, tmp_path: Path) -> None:
    command = [TRAIN, "-d", str(photos), "-o", "own.npz", *SMALL]
    training = tmp_path / "own.npz.training"
    started = subprocess.Popen(
        [sys.executable, str(ROOT / TRAIN), *command[1:]], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (training / "components.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    assert "stopped: the same command goes on from here" in started.communicate()[1] and started.returncode == 1
    assert not (tmp_path / "own.npz").exists()
    known = (training / "components.npz").stat().st_mtime_ns

    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (training / "components.npz").stat().st_mtime_ns == known
    card = json.loads((tmp_path / "own.npz.json").read_text())
    folders = {path.name for path in photos.iterdir() if path.is_dir()}
    assert len(card["held_out"]) == 2 and set(card["held_out"]) < folders
    assert card["photos"] == sum(1 for path in photos.glob("*/*") if path.parent.name not in card["held_out"])
    assert card["started_from"] == included_digest()
    assert 0 <= card["precision@10"] <= 1 and 0 <= card["teacher's precision@10"] <= 1
    with open(training / "curve.csv", newline="") as curve:
        assert [float(line[0]) for line in csv.reader(curve)] == [4]
    encoder = load_encoder(EncoderSpec("compact", weights=str(tmp_path / "own.npz")))
    vector = np.asarray(encoder.model.predict_on_batch(np.zeros((1, 112, 112, 3), np.uint8)))
    assert vector.shape == (1, 256) and np.isfinite(vector).all()

    renamed = tmp_path / "renamed"
    shutil.copytree(photos, renamed)
    assert run(TRAIN, "-d", str(renamed), *command[3:], cwd=tmp_path).returncode == 0
    (first := next(renamed.glob("*/*.jpg"))).rename(first.with_name("another.jpg"))
    for other in (["-d", str(renamed), *command[3:]], [*command[1:], "--seed", "1"]):
        refused = run(TRAIN, *other, cwd=tmp_path)
        assert refused.returncode == 1 and "holds a training with other settings: remove it" in refused.stderr


def test_weights_that_are_there_are_kept(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_text("mine")
    done = run(TRAIN, "-d", str(photos), "-o", "own.npz", *SMALL, cwd=tmp_path)
    assert done.returncode == 1 and "own.npz exists: keep it, and give another --output_filename" in done.stderr
    assert (tmp_path / "own.npz").read_text() == "mine"


def test_wrong_weights_to_start_from_are_a_sentence(photos: Path, tmp_path: Path) -> None:
    done = run(TRAIN, "-d", str(photos), "-o", "own.npz", *SMALL, "--weights", "missing.npz", cwd=tmp_path)
    assert done.returncode == 1 and "missing.npz does not hold the weights of the compact encoder" in done.stderr
    assert not list(tmp_path.iterdir())


def test_precision_is_that_of_the_labels_held_out() -> None:
    vectors = {0: [1, 0], 1: [0.9, 0.1], 2: [0, 1], 3: [0.1, 0.9]}
    pixels = [np.full((1, 1, 3), number, np.uint8) for number in vectors]

    def encode(batch: np.ndarray) -> np.ndarray:
        return np.array([vectors[int(photo.flat[0])] for photo in batch], np.float32)

    together = dict(zip("abcd", ["x", "x", "y", "y"], strict=True))
    assert precision(encode, pixels, together) == pytest.approx(1 / 3)  # one of the three others has the label
    assert precision(encode, pixels, dict(zip("abcd", "wxyz", strict=True))) is None
    assert precision(encode, [], {}) is None


def test_holding_out_every_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    done = run(TRAIN, "-d", str(photos), "-o", "own.npz", *SMALL, "--hold_out", "999", cwd=tmp_path)
    assert done.returncode == 1 and "--hold_out 999 leaves nothing to learn from" in done.stderr
    assert not list(tmp_path.iterdir())


def test_photos_without_a_folder_are_always_learnt_from(photos: Path, tmp_path: Path) -> None:
    for number, photo in enumerate(sorted(photos.glob("*/*.jpg"))[:3]):
        shutil.copy(photo, tmp_path / f"{number}.jpg")
    labels, held = split([tmp_path], 0, 0)
    assert set(labels) == {tmp_path / f"{number}.jpg" for number in range(3)} and held == []
    (tmp_path / "owls").mkdir()
    shutil.copy(photo, tmp_path / "owls")
    assert split([tmp_path], 1, 0)[1] == ["owls"]
