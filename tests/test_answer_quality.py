import numpy as np
import pytest

from similar_images.answer_quality import AnswerQuality, answer_quality
from similar_images.gallery import Gallery
from similar_images.labels import Labels, labels_of


def test_answer_quality_is_that_of_brute_force(gallery: Gallery) -> None:
    labels = labels_of(gallery.names, "folders")
    assert labels is not None
    quality = answer_quality(gallery.stored(np.arange(75)), labels, labels.labelled(), k=2)
    vectors = np.load(gallery.path.with_name("photos.saved_predictions.npy")).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folders = np.array([name.split("/")[0] for name in gallery.names])
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -1)
    nearest = np.argsort(-similar, axis=1)
    right = folders[nearest] == folders[:, None]
    assert quality.means()["precision@2"][0] == pytest.approx(right[:, :2].mean(), abs=1e-6)
    assert quality.means()["R-precision"][0] == pytest.approx(right[:, :2].mean(), abs=1e-6)
    hand = [np.mean([line[: rank + 1].mean() for rank in np.flatnonzero(line)]) for line in right[:, :-1]]
    np.testing.assert_allclose(quality.average_precision, hand, atol=1e-9)


LABELS = Labels(["cat", "dog", "red"], np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 1]], bool))


def judged() -> AnswerQuality:
    """Photo 0 (a cat) found 1 (a red cat) and 2 (a dog); photo 2 (a dog) found 0 (a cat) and 4 (red)."""
    rows, found = np.array([0, 2]), np.array([[1, 2], [0, 4]])
    return AnswerQuality(
        rows, found, np.array([0.5, 0.0]), np.array([1.0, 0.25]), np.array([1.0, 0.0]), np.full(2, np.nan)
    )


def test_tables_by_hand() -> None:
    quality = judged()
    assert quality.by_label(LABELS) == [("dog", 1, 0.0, 0.25), ("cat", 1, 0.5, 1.0)]
    assert quality.confusions(LABELS) == [("cat", "dog", 0.5), ("dog", "cat", 0.5), ("dog", "red", 0.5)]
    assert quality.worst(1).tolist() == [1]
    assert quality.means()["precision@2"][0] == 0.25


def test_groups_of_four_get_their_score() -> None:
    """Two objects of four photos each: one photo of the first lies beside the second."""
    angles = np.deg2rad([0, 1, 2, 49.5, 51, 52, 53, 54])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    labels = Labels(["one", "other"], np.repeat(np.eye(2, dtype=bool), 4, axis=0))
    quality = answer_quality(vectors, labels, np.arange(8), k=3)
    assert quality.n_s.tolist() == [4, 4, 4, 1, 3, 4, 4, 4]
    assert quality.means()["N-S score"][0] == 3.5 and "N-S score" not in judged().means()
