import os
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images.cards import VectorsCard
from similar_images.store.facts import Facts
from similar_images.store.unfinished_vectors import UnfinishedVectors
from similar_images.store.vectors import VectorsError, open_vectors, read_names

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_unfinished_vectors_appear_whole_and_leave_nothing_behind(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "a.saved_predictions.npy", ROWS)
    assert np.array_equal(np.load(path), ROWS) and np.load(path).dtype == np.float32
    beside = ["a.catalogue.sqlite", path.name, f"{path.name}.json", f"{path.name}.txt"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == beside
    vectors = open_vectors(path)
    assert read_names(path, 3, vectors.card.file_list_digest) == ["0.jpg", "1.jpg", "2.jpg"]


def test_unfinished_vectors_go_on_from_the_last_checkpoint_only_with_the_same_options(tmp_path: Path) -> None:
    first = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 32})
    assert first.open() is False
    first.write(0, ROWS[:1])
    failed = Facts(0, "0.jpg", state="unreadable", reason="it is empty")
    first.checkpoint(1, [failed])
    first.write(1, ROWS[1:])
    first.close()
    with pytest.raises(VectorsError, match=r"another batch_size \(32, now 16\).*--overwrite"):
        UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 16}).open()
    again = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 32})
    assert again.open() is True
    assert (again.done, list(again.catalogue.all())) == (1, [failed])
    again.close()
    anew = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 16})
    assert anew.open(disposable=["batch_size"]) is False and anew.done == 0


def test_unfinished_vectors_ignore_the_record_of_a_run_that_is_gone(tmp_path: Path) -> None:
    first = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"})
    first.open()
    first.checkpoint(1, [Facts(0, "0.jpg")])
    first.close()
    (tmp_path / "a.npy.part").unlink()
    again = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"})
    assert again.open() is False and again.done == 0
    again.close()  # killed before its first checkpoint
    assert UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"}).open() is False


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_unfinished_vectors_ignore_a_damaged_record(tmp_path: Path, size: int) -> None:
    first = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"})
    first.open()
    first.checkpoint(1, [Facts(0, "0.jpg")])
    first.close()
    os.truncate(tmp_path / "a.npy.catalogue.sqlite.part", size)
    assert UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"}).open() is False


def test_unfinished_vectors_of_a_killed_process_go_on_with_all_that_it_made_safe(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        first = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"})
        first.open()
        for row in range(2):
            first.write(row, ROWS[row : row + 1])
            first.checkpoint(row + 1, [Facts(row, f"{row}.jpg")])
        first.write(2, ROWS[2:])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "a.npy.catalogue.sqlite.part-wal").exists()
    again = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"encoder": "test"})
    assert again.open() is True and (again.done, len(again.catalogue)) == (2, 2)
    again.write(2, ROWS[2:])
    again.checkpoint(3, [Facts(2, "2.jpg")])
    again.finish(VectorsCard(n=3, d=4))
    assert np.array_equal(open_vectors(tmp_path / "a.npy").array, ROWS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "a.npy",
        "a.npy.catalogue.sqlite",
        "a.npy.json",
        "a.npy.txt",
    ]
