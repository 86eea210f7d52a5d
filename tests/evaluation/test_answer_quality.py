import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images.evaluation.answer_quality import AnswerQuality, answer_quality, known_vectors, means, spaces_of
from similar_images.evaluation.labels import Labels, labels_of
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.measure import FOCUS
from similar_images.store.vectors import normalise, open_vectors


def directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_answer_quality_is_that_of_brute_force(gallery: Gallery) -> None:
    labels = labels_of(gallery.names, "folders")
    assert labels is not None
    quality = answer_quality(gallery.units(np.arange(75)), labels, labels.labelled(), k=2)
    vectors = directions(np.load(gallery.path.with_name("photos.saved_predictions.npy")).astype(np.float64))
    vectors = directions(vectors - vectors.mean(axis=0))
    folders = np.array([name.split("/")[0] for name in gallery.names])
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -1)
    nearest = np.argsort(-similar, axis=1)
    right = folders[nearest] == folders[:, None]
    assert means(quality.measures)["precision@2"][0] == pytest.approx(right[:, :2].mean(), abs=1e-6)
    assert quality.measures["P@1"].tolist() == right[:, 0].tolist()
    assert quality.measures["R-precision"].mean() == pytest.approx(right[:, :2].mean(), abs=1e-6)
    hand = [np.mean([line[: rank + 1].mean() for rank in np.flatnonzero(line)]) for line in right[:, :-1]]
    np.testing.assert_allclose(quality.average_precision, hand, atol=1e-9)


LABELS = Labels(["cat", "dog", "red"], np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 1]], bool))


def judged() -> AnswerQuality:
    """Photo 0 (a cat) found 1 (a red cat) and 2 (a dog); photo 2 (a dog) found 0 (a cat) and 4 (red)."""
    rows, found = np.array([0, 2]), np.array([[1, 2], [0, 4]])
    measures = {"precision@2": np.array([0.5, 0.0]), "mean average precision": np.array([1.0, 0.25])}
    return AnswerQuality(rows, found, np.zeros((2, 2), np.float32), np.array([1, 1]), 4, measures)


def test_tables_by_hand() -> None:
    quality = judged()
    assert quality.by_label(LABELS) == [("dog", 1, 0.0, 0.25), ("cat", 1, 0.5, 1.0)]
    assert quality.confusions(LABELS) == [("cat", "dog", 0.5), ("dog", "cat", 0.5), ("dog", "red", 0.5)]
    assert quality.worst(1).tolist() == [1]


def test_groups_of_four_get_their_score() -> None:
    """Two objects of four photos each: one photo of the first lies beside the second."""
    angles = np.deg2rad([0, 1, 2, 49.5, 51, 52, 53, 54])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    labels = Labels(["one", "other"], np.repeat(np.eye(2, dtype=bool), 4, axis=0))
    quality = answer_quality(vectors, labels, np.arange(8), k=3)
    assert quality.measures["N-S score"].tolist() == [4, 4, 4, 1, 3, 4, 4, 4]
    assert quality.chance()["N-S score"] == pytest.approx(1 + 3 * 3 / 7)


def test_chance_is_the_mean_of_random_rankings() -> None:
    random = np.random.default_rng(0)
    labels = Labels(["few", "many"], np.repeat(np.eye(2, dtype=bool), [3, 9], axis=0))
    chance = answer_quality(normalise(random.standard_normal((12, 4))), labels, np.arange(12), k=4).chance()
    drawn = [
        answer_quality(normalise(random.standard_normal((12, 60))), labels, np.arange(12), k=4) for _ in range(800)
    ]
    for name, expected in chance.items():
        assert expected == pytest.approx(np.mean([each.measures[name] for each in drawn]), abs=0.012), name


def test_spaces_are_the_measure_with_and_without_focus_and_the_raw_cosine(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).random((40, 5)).astype(np.float32) * 7
    rows = np.vstack([raw, np.zeros((1, 5), np.float32)])
    build_index(open_vectors(write_vectors(tmp_path / "v.npy", rows)), tmp_path / "v.faiss.index", IndexSettings())
    centred = directions(directions(raw) - directions(raw).mean(axis=0))
    variances, axes = np.linalg.eigh(centred.T @ centred)
    focused = directions(centred @ axes * variances ** (FOCUS / 2)) @ axes.T
    spaces = spaces_of(Gallery.open(tmp_path / "v.faiss.index"))
    assert list(spaces) == ["centred cosine, focus 0.1, exact", "centred cosine, exact", "raw cosine, exact"]
    for units, expected in zip(spaces.values(), (focused, centred, directions(raw)), strict=True):
        found = units(rows)
        np.testing.assert_allclose(found[:40], expected, atol=1e-5)
        assert not found[40].any()


@pytest.mark.parametrize("rows", [np.eye(19, 24), np.eye(2, 24), np.tile(np.linspace(1, 2, 24), (30, 1))])
def test_spaces_of_few_or_of_equal_photos_are_the_raw_cosine_alone(rows: np.ndarray, tmp_path: Path) -> None:
    vectors = open_vectors(write_vectors(tmp_path / "v.npy", rows.astype(np.float32)))
    build_index(vectors, tmp_path / "v.faiss.index", IndexSettings())
    assert list(spaces_of(Gallery.open(tmp_path / "v.faiss.index"))) == ["raw cosine, exact"]


def test_spaces_without_vectors_are_those_of_the_components(gallery: Gallery, tmp_path: Path) -> None:
    shutil.copytree(gallery.path.parent, tmp_path / "copy")
    (tmp_path / "copy" / "photos.saved_predictions.npy").unlink()
    alone = Gallery.open(tmp_path / "copy" / gallery.path.name)
    found, by_components = np.concatenate(list(known_vectors(alone))), spaces_of(alone)
    assert list(by_components) == [
        "centred cosine, focus 0.1, by the index's components",
        "centred cosine, by the index's components",
    ]
    vectors = np.load(gallery.path.with_name("photos.saved_predictions.npy"))
    for units, exact in zip(by_components.values(), spaces_of(gallery).values(), strict=False):
        np.testing.assert_allclose(units(found) @ units(found).T, exact(vectors) @ exact(vectors).T, atol=1e-4)
