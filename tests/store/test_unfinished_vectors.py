from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images.cards import Failure
from similar_images.store.unfinished_vectors import UnfinishedVectors
from similar_images.store.vectors import VectorsError, open_vectors, read_names

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_unfinished_vectors_appear_whole_and_leave_nothing_behind(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "a.saved_predictions.npy", ROWS)
    assert np.array_equal(np.load(path), ROWS) and np.load(path).dtype == np.float32
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, f"{path.name}.json", f"{path.name}.txt"]
    vectors = open_vectors(path)
    assert read_names(path, 3, vectors.card.file_list_digest) == ["0.jpg", "1.jpg", "2.jpg"]


def test_unfinished_vectors_go_on_from_the_last_checkpoint_only_with_the_same_options(tmp_path: Path) -> None:
    first = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 32})
    assert first.open(start_anew=False) is False
    first.write(0, ROWS[:1])
    first.failures[0] = Failure(row=0, name="0.jpg", reason="it is empty")
    first.checkpoint(1)
    first.close()
    with pytest.raises(VectorsError, match=r"another batch_size \(32, now 16\).*--overwrite"):
        UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 16}).open(start_anew=False)
    again = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {"batch_size": 32})
    assert again.open(start_anew=False) is True
    assert (again.done, again.failures) == (1, first.failures)


def test_unfinished_vectors_ignore_the_record_of_a_run_that_is_gone(tmp_path: Path) -> None:
    first = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {})
    first.open(start_anew=False)
    first.checkpoint(2)
    first.close()
    (tmp_path / "a.npy.part").unlink()
    again = UnfinishedVectors(tmp_path / "a.npy", (3, 4), {})
    assert again.open(start_anew=False) is False and again.done == 0
    again.close()  # killed before its first checkpoint
    assert UnfinishedVectors(tmp_path / "a.npy", (3, 4), {}).open(start_anew=False) is False
