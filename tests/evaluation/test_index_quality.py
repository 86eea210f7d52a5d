from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images.evaluation.index_quality import OperatingPoint, cheapest, operating_points
from similar_images.search.gallery import Gallery
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.measure import FOCUS
from similar_images.store.vectors import open_vectors

VECTORS = np.random.default_rng(0).standard_normal((3000, 32), np.float32) * np.linspace(2, 1, 32) + 0.5


@pytest.fixture(scope="module", params=[None, 128])
def listed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """3,000 seeded vectors in an index with lists and codes, of the raw or of the centred cosine."""
    path = tmp_path_factory.mktemp("listed") / "v.saved_predictions.npy"
    write_vectors(path, VECTORS.astype(np.float32), img_dir=".")
    build_index(open_vectors(path), path.with_name("v.faiss.index"), IndexSettings(nlist=16, pca=request.param))
    return Gallery.open(path.with_name("v.faiss.index"))


def compared(is_centred: bool) -> np.ndarray:
    """Return what a search compares by default: with a focus, which weighs components, where vectors are centred."""
    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    if is_centred:
        units -= units.mean(axis=0)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        variances, directions = np.linalg.eigh(units.T @ units)
        units = units @ directions * variances ** (FOCUS / 2)
    return units / np.linalg.norm(units, axis=1, keepdims=True)


def test_operating_points_are_what_search_finds(listed: Gallery) -> None:
    rows = np.arange(0, 3000, 100)
    points = operating_points(listed, rows)
    assert {point.nprobe for point in points} >= {1, 2, 4, 8, 16} and sum(point.current for point in points) == 1
    everything = next(point for point in points if (point.nprobe, point.rerank) == (16, 1000))
    assert everything.recall[1] >= 0.95 and everything.recall[10] >= 0.9
    some = next(point for point in points if (point.nprobe, point.rerank) == (2, 100))
    units = compared(is_centred=listed.measure.mean is not None)
    similar = units[rows] @ units.T
    similar[np.arange(len(rows)), rows] = -9
    exact = np.argsort(-similar, axis=1)[:, :10]
    found = [[hit.image_id for hit in listed.search(int(row), 11, nprobe=2, rerank=100)] for row in rows]
    shared = [len(set(a) & (set(b) - {row})) / 10 for a, b, row in zip(exact, found, rows, strict=True)]
    assert some.recall[10] == pytest.approx(np.mean(shared), abs=0.011)
    for rerank in (100, 1000):
        recalls = [point.recall[10] for point in points if point.rerank == rerank]
        assert recalls == sorted(recalls), "more lists find more"


def test_exact_index_has_one_operating_point(gallery: Gallery) -> None:
    (point,) = operating_points(gallery, np.arange(20))
    assert point.current and point.recall[1] == point.recall[10] == 1


def test_exact_index_finds_a_hundred_in_the_order_of_the_focus(tmp_path: Path) -> None:
    vectors = write_vectors(tmp_path / "v.npy", VECTORS[:900].astype(np.float32))
    build_index(open_vectors(vectors), tmp_path / "v.faiss.index", IndexSettings())
    (point,) = operating_points(Gallery.open(tmp_path / "v.faiss.index"), np.arange(50))
    assert point.recall == {1: 1, 10: 1, 100: 1}


def test_cheapest_is_the_quickest_that_reaches_the_target() -> None:
    def at(recall: float, p50: float) -> OperatingPoint:
        return OperatingPoint(1, 0, {10: recall}, p50, p50, False)

    points = [at(0.5, 0.1), at(0.96, 0.9), at(0.99, 0.4), at(1.0, 2.0)]
    assert cheapest(points, 0.95) is points[2] and cheapest(points, 1.0) is points[3]
    assert cheapest(points[:1], 0.95) is None
