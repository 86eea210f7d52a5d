import shutil
from pathlib import Path

import numpy as np

from similar_images.search.feedback import refined, rocchio
from similar_images.search.gallery import Gallery

NONE = np.zeros((0, 3), np.float32)


def test_rocchio_moves_towards_relevant_and_away_from_irrelevant() -> None:
    query = np.array([1, 0, 0], np.float32)
    relevant = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    irrelevant = np.array([[0, 1, 0]], np.float32)
    np.testing.assert_allclose(rocchio(query, relevant, NONE), [1, 0.5, 0.5])
    np.testing.assert_allclose(rocchio(query, relevant, irrelevant), [1, 0.2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(rocchio(query, NONE, irrelevant), [1, -0.3, 0], rtol=1e-6)
    assert query.tolist() == [1, 0, 0]


def test_refined_without_marks_is_the_query(gallery: Gallery) -> None:
    np.testing.assert_array_equal(refined(gallery, 3), gallery.vector(3))


def test_refined_is_nearer_to_relevant_and_farther_from_irrelevant(gallery: Gallery) -> None:
    def similarity(vector: np.ndarray, row: int) -> float:
        return float(vector @ gallery.units([row])[0] / np.linalg.norm(vector))

    more, less = refined(gallery, 0, relevant=[40]), refined(gallery, 0, relevant=[40], irrelevant=[60])
    assert similarity(more, 40) > similarity(gallery.vector(0), 40)
    assert similarity(less, 60) < similarity(more, 60)


def test_refined_by_photos_that_were_removed_is_refined_by_the_others(index_file: Path, tmp_path: Path) -> None:
    shutil.copytree(index_file.parent, tmp_path / "copy")
    gallery = Gallery.open(tmp_path / "copy" / index_file.name)
    vector, expected = gallery.vector(0), refined(gallery, 0, relevant=[40], irrelevant=[60])
    gallery.store.remove([41, 61])
    np.testing.assert_array_equal(refined(gallery, vector, [40, 41], [60, 61]), expected)
    alone = gallery.measure.units(refined(gallery, vector, [41], [61])[None])
    np.testing.assert_allclose(alone, gallery.measure.units(vector[None]), atol=1e-6)
