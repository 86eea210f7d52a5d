import shutil
from pathlib import Path

import numpy as np
import pytest

from similar_images.search.gallery import Gallery, GalleryError
from similar_images.search.gallery_map import coordinates, map_path, methods
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import normalise, open_vectors


@pytest.fixture
def copy(index_file: Path, tmp_path: Path) -> Gallery:
    shutil.copytree(index_file.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("*.index.*.npy*"))
    return Gallery.open(tmp_path / "copy" / index_file.name)


def test_pca_places_are_the_principal_components_turned_and_scaled(copy: Gallery) -> None:
    placed = coordinates(copy, "pca")
    assert placed.shape == (75, 2) and placed.dtype == np.float32
    np.testing.assert_allclose([placed.min(axis=0), placed.max(axis=0)], [[-1, -1], [1, 1]], atol=1e-6)
    vectors = copy.units(np.arange(75))
    centred = vectors - vectors.mean(axis=0)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    fitted = np.linalg.lstsq(np.column_stack([components, np.ones(75)]), placed, rcond=None)[0]
    np.testing.assert_allclose(np.column_stack([components, np.ones(75)]) @ fitted, placed, atol=0.02)


def test_umap_keeps_neighbours_together(copy: Gallery) -> None:
    assert methods() == ["pca", "umap"]
    placed = coordinates(copy, "umap")
    for row in range(0, 75, 10):
        neighbours = [hit.image_id for hit in copy.search(row, 4)][1:]
        away = np.linalg.norm(placed - placed[row], axis=1)
        assert away[neighbours].mean() < 0.6 * away.mean()


def test_map_is_kept_and_made_again_for_other_vectors(copy: Gallery) -> None:
    first = coordinates(copy)
    made = map_path(copy, "pca").stat().st_mtime_ns
    np.testing.assert_array_equal(coordinates(copy), first)
    assert map_path(copy, "pca").stat().st_mtime_ns == made
    copy.store.card.digest = "0" * 64
    coordinates(copy)
    assert map_path(copy, "pca").stat().st_mtime_ns > made


def test_map_where_nothing_may_be_written_is_made_all_the_same(copy: Gallery) -> None:
    map_path(copy, "pca").mkdir()
    assert coordinates(copy, "pca").shape == (75, 2)


def test_map_without_the_vectors_is_of_the_components_or_says_what_is_missing(copy: Gallery) -> None:
    expected = coordinates(copy)
    map_path(copy, "pca").unlink()
    vectors = copy.path.parent / "photos.saved_predictions.npy"
    build_index(open_vectors(vectors), copy.path.with_name("raw.faiss.index"), IndexSettings(pca=None))
    vectors.unlink()
    np.testing.assert_array_equal(coordinates(Gallery.open(copy.path)), expected)
    with pytest.raises(GalleryError, match="vectors file"):
        coordinates(Gallery.open(copy.path.with_name("raw.faiss.index")))


def test_pca_places_of_a_gallery_without_components_are_those_of_its_vectors(copy: Gallery) -> None:
    raw, steps = copy.path.with_name("raw.faiss.index"), list[tuple[str, int, int]]()
    build_index(open_vectors(copy.store.vectors_path), raw, IndexSettings(pca=None))
    placed = coordinates(Gallery.open(raw), "pca", lambda *step: steps.append(step))
    assert steps[-1] == ("projecting", 75, 75)
    units = normalise(copy.store.vectors(np.arange(75)))
    fitted = np.linalg.lstsq(np.column_stack([placed, np.ones(75)]), units - units.mean(axis=0), rcond=None)[0]
    kept = ((np.column_stack([placed, np.ones(75)]) @ fitted) ** 2).sum()
    assert kept == pytest.approx((np.linalg.svd(units - units.mean(axis=0), compute_uv=False)[:2] ** 2).sum(), rel=1e-2)


def test_photos_without_a_vector_have_no_place(copy: Gallery) -> None:
    copy.store.remove([3])
    placed = coordinates(copy)
    assert np.isnan(placed[3]).all() and not np.isnan(np.delete(placed, 3, axis=0)).any()
