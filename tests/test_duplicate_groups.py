import numpy as np
import pytest

from similar_images.duplicate_groups import FLOOR, gap_threshold, groups, near_pairs
from similar_images.gallery import Gallery


def test_gap_threshold_is_between_near_duplicates_and_the_rest() -> None:
    random = np.random.default_rng(0)
    duplicates, others = random.uniform(0.001, 0.004, 30), random.uniform(0.3, 0.9, 500)
    threshold = gap_threshold(np.concatenate([duplicates, others]).astype(np.float32))
    assert 0.004 < threshold < 0.3


def test_gap_threshold_without_near_duplicates_is_the_floor() -> None:
    assert gap_threshold(np.linspace(0.5, 0.9, 200, dtype=np.float32)) == FLOOR


def test_groups_are_what_pairs_lead_to() -> None:
    assert groups(np.array([[1, 5], [5, 9], [2, 3], [3, 2]]), 12) == [[1, 5, 9], [2, 3]]
    assert groups(np.zeros((0, 2), np.int64), 4) == []


def test_near_pairs_are_the_nearest_other_photos(gallery: Gallery) -> None:
    nearest, pairs, distances = near_pairs(gallery, k=3)
    assert nearest.shape == (75,) and pairs.shape == (225, 2) and distances.shape == (225,)
    vectors = np.load(gallery.path.with_name("photos.saved_predictions.npy")).astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    units -= units.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    exact = np.square(units - units[10]).sum(axis=1)
    own, others = pairs[:, 0] == 10, np.argsort(exact)[1:4]
    assert pairs[own, 1].tolist() == others.tolist() and nearest[10] == distances[own][0]
    assert distances[own].tolist() == pytest.approx(exact[others].tolist(), abs=1e-5)
