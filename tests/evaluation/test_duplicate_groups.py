import numpy as np

from similar_images.evaluation.duplicate_groups import groups, near_pairs
from similar_images.search.gallery import Gallery


def test_groups_are_what_pairs_lead_to() -> None:
    assert groups(np.array([[1, 5], [5, 9], [2, 3], [3, 2]]), 12) == [[1, 5, 9], [2, 3]]
    assert groups(np.zeros((0, 2), np.int64), 4) == []


def test_near_pairs_are_those_of_exact_distances(gallery: Gallery) -> None:
    vectors = np.load(gallery.path.with_name("photos.saved_predictions.npy")).astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    units -= units.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    distances = 2 - 2 * units @ units.T
    np.fill_diagonal(distances, np.inf)
    distance = float(np.quantile(distances.min(axis=1), 0.3))
    expected = np.argwhere(distances <= distance)
    assert len(expected) > 10
    assert {tuple(pair) for pair in near_pairs(gallery, distance, k=74)} == {tuple(pair) for pair in expected}
