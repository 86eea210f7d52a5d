from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images.files import names_path, part_of
from similar_images.store.base import StoreError
from similar_images.store.facts import Facts
from similar_images.store.faiss_store import FaissStore
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors


def test_change_that_fails_leaves_the_gallery_as_it_was_and_nothing_else(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    vectors = write_vectors(tmp_path / "v.saved_predictions.npy", rows)
    build_index(open_vectors(vectors), tmp_path / "v.faiss.index", IndexSettings())
    store, before = FaissStore(tmp_path / "v.faiss.index"), {path.name for path in tmp_path.iterdir()}
    part_of(names_path(vectors)).mkdir()  # where the list of the photos would be written
    with pytest.raises(StoreError, match="can't be changed"):
        store.add(rows[:2], [Facts(0, "a.jpg"), Facts(0, "b.jpg")])
    with pytest.raises(StoreError, match="can't be changed"):
        store.remove([3])
    part_of(names_path(vectors)).rmdir()
    assert {path.name for path in tmp_path.iterdir()} == before
    assert store.present == 30 and FaissStore(tmp_path / "v.faiss.index").present == 30
    assert store.add(rows[:2], [Facts(0, "a.jpg"), Facts(0, "b.jpg")]).tolist() == [30, 31]
