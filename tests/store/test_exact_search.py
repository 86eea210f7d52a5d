import tracemalloc
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pytest

from similar_images.store.exact_search import distances_to_others, exact_neighbours, recall_at_k
from similar_images.store.faiss_index import GalleryIndex
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.measure import Comparison
from similar_images.store.vectors import normalise, open_vectors


def test_recall_at_k_counts_what_is_near_enough() -> None:
    exact = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    found = np.array([[0.4, 0.3, 0.9, np.inf], [0.5, 0.6, 0.7, 0.8]])
    assert recall_at_k(exact, found) == (0.5 + 1) / 2


def test_recall_at_k_takes_any_of_several_at_the_same_distance() -> None:
    exact = np.array([[0.0, 0.0, 0.0]])
    assert recall_at_k(exact, np.array([[0.0, 0.0, 0.0, 0.0]])) == 1
    assert recall_at_k(exact, np.array([[0.0, 1e-7, 0.0]])) == 2 / 3


def test_distances_to_others_leaves_out_the_query_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([[1, 0], [0, 1], [-1, 0], [1, 0]], np.float32))
    vectors = open_vectors(tmp_path / "v.npy")
    build_index(vectors, tmp_path / "v.faiss.index", IndexSettings())
    index = GalleryIndex.open(tmp_path / "v.faiss.index")
    rows, found = np.array([0, 1]), [np.array([0, 1, 3, 2]), np.array([2])]
    queries = [Comparison(index.measure, np.asarray(vectors.array[row])) for row in rows]
    exact = partial(index.distances, vectors=vectors)
    distances = distances_to_others(exact, queries, rows, found, 2)
    assert distances.tolist() == [[2, 0], [2, np.inf]]


def test_recall_at_k_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        recall_at_k(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32))


def test_exact_neighbours_in_chunks_equals_faiss() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 32), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, expected = faiss.knn(unit[:20], unit, 7)
    chunks = [(start, vectors[start : start + 130]) for start in range(0, 500, 130)]
    assert np.array_equal(exact_neighbours(unit[:20], chunks, 7), expected)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_exact_neighbours_do_not_depend_on_the_scale(scale: float) -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 32), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, expected = faiss.knn(unit[:20], unit, 7)
    assert np.array_equal(exact_neighbours(unit[:20], [(0, vectors * np.float32(scale))], 7), expected)


def test_exact_neighbours_of_a_large_chunk_take_little_memory() -> None:
    vectors = np.random.default_rng(0).standard_normal((200_000, 4), np.float32)
    tracemalloc.start()
    exact_neighbours(normalise(vectors[:100]), [(0, vectors)], 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000, "100 x 200,000 cosines and rows take 240 MB"


def test_exact_neighbours_leaves_out_rows_of_zeros() -> None:
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    assert exact_neighbours(np.array([[1, 0]], np.float32), [(0, vectors)], 2).tolist() == [[1, 2]]


def test_recall_is_the_intersection_measure_of_faiss() -> None:
    from faiss.contrib.evaluation import knn_intersection_measure

    random = np.random.default_rng(0)
    distances = np.sort(random.random((15, 30)))
    exact = np.tile(np.arange(10), (15, 1))
    found = np.array([random.permutation(30)[:10] for _ in range(15)])
    recall = recall_at_k(*(np.take_along_axis(distances, ids, 1) for ids in (exact, found)))
    assert recall == pytest.approx(knn_intersection_measure(exact, found))
