import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import write_vectors

from similar_images.store.vectors import VectorsError, normalise, open_vectors, read_names

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_open_vectors_without_card_takes_4096_for_the_published_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "list.txt.saved_predictions.npy", np.ones((2, 4096), np.float32))
    np.save(tmp_path / "other.npy", np.ones((2, 8), np.float32))
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    published = open_vectors(tmp_path / "list.txt.saved_predictions.npy")
    assert (published.card.encoder, published.card.layer, published.card.resize) == ("vgg16", "fc2", "keras")
    assert read_names(published.path, 2, None) == ["a.jpg", "b.jpg"]
    assert open_vectors(tmp_path / "other.npy").card.encoder == ""


def test_open_vectors_of_what_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("nothing")
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    np.save(tmp_path / "empty.npy", np.ones((0, 4), np.float32))
    for name in ("text", "flat", "words", "empty"):
        with pytest.raises(VectorsError, match="not a vectors file"):
            open_vectors(tmp_path / f"{name}.npy")
    with pytest.raises(VectorsError, match=r"extract_image_vectors\.py makes it"):
        open_vectors(tmp_path / "missing.npy")


def test_vectors_and_names_of_other_runs_are_refused(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "a.npy", ROWS)
    names = path.with_name("a.npy.txt")
    digest = open_vectors(path).card.file_list_digest
    names.write_text("0.jpg\n1.jpg\nother.jpg\n")
    with pytest.raises(VectorsError, match="was changed after"):
        read_names(path, 3, digest)
    names.write_text("0.jpg\n")
    with pytest.raises(VectorsError, match="1 names for the 3 rows"):
        read_names(path, 3, digest)
    names.unlink()
    with pytest.raises(VectorsError, match="is missing"):
        read_names(path, 3, digest)
    np.save(path, np.ones((5, 4), np.float32))
    with pytest.raises(VectorsError, match="of different runs"):
        open_vectors(path)
    path.with_name("a.npy.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        open_vectors(path)


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e37, 1e-44])
def test_normalise_does_not_depend_on_the_scale(scale: float) -> None:
    values = np.round(np.random.default_rng(0).standard_normal((40, 64)) * 8)
    rows = (values * scale).astype(np.float32)
    scaled = rows.astype(np.float64) / np.abs(rows).max()  # what float32 keeps of them
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    np.testing.assert_allclose(normalise(rows), unit, atol=1e-6)


def test_normalise_leaves_zeros_and_the_callers_array_alone() -> None:
    rows = np.array([[3, 4], [0, 0]], np.float32)
    assert np.allclose(normalise(rows), [[0.6, 0.8], [0, 0]])
    assert rows.tolist() == [[3, 4], [0, 0]]


def test_chunks_make_up_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("similar_images.store.vectors.CHUNK_BYTES", 32)
    chunks = list(open_vectors(write_vectors(tmp_path / "a.npy", ROWS)).chunks())
    assert [start for start, _ in chunks] == [0, 2]
    assert np.array_equal(np.concatenate([chunk for _, chunk in chunks]), ROWS)


def test_gathered_rows_of_a_large_file_are_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((40_000, 1024), np.float32))  # 164 MB
    monkeypatch.setattr("similar_images.store.vectors.MAPPED_BYTES", 1_000_000)
    vectors = open_vectors(tmp_path / "v.npy")
    before = psutil.Process().memory_info().shared
    for start in range(0, 40_000, 250):
        gathered = [block for _, block in vectors.gathered(np.arange(start, start + 250))]
    assert np.array_equal(np.concatenate(gathered), vectors.array[-250:])
    del gathered
    assert psutil.Process().memory_info().shared - before < 60_000_000


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_gathered_rows_of_a_large_file_are_those_of_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, order: str
) -> None:
    rows = np.asarray(np.random.default_rng(0).random((50, 7)), kind, order=order)
    np.save(tmp_path / "v.npy", rows)
    monkeypatch.setattr("similar_images.store.vectors.MAPPED_BYTES", 0)
    asked = np.array([49, 0, 7, 7])
    gathered = [block for _, block in open_vectors(tmp_path / "v.npy").gathered(asked)]
    assert np.array_equal(np.concatenate(gathered), rows[asked].astype(np.float32))


def test_gathered_rows_of_a_large_file_that_was_cut_short_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "v.npy", np.ones((50, 7), np.float32))
    monkeypatch.setattr("similar_images.store.vectors.MAPPED_BYTES", 0)
    vectors = open_vectors(tmp_path / "v.npy")
    os.truncate(tmp_path / "v.npy", 1000)
    with pytest.raises(VectorsError, match="was cut short while it was open: extract the vectors again"):
        list(vectors.gathered(np.array([0, 49])))
