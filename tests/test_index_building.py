from pathlib import Path

import faiss
import numpy as np
import pytest

from similar_images.evaluation import exact_neighbours, recall_at_k
from similar_images.index import GalleryIndex, GalleryIndexError
from similar_images.index_building import IndexSettings, build_index, describe, fit_to_gallery
from similar_images.vectors import VectorFile, normalise, open_vectors


def vectors_like_real_ones(n: int, d: int, path: Path) -> VectorFile:
    """Seeded clusters with a falling spectrum and no negative values, as after a ReLU."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((30, d))
    points = centres[rng.integers(0, 30, n)] + rng.standard_normal((n, d)) * np.geomspace(2, 0.1, d)
    np.save(path, np.maximum(points, 0).astype(np.float32))
    return open_vectors(path)


def build(vectors: VectorFile, settings: IndexSettings) -> GalleryIndex:
    output = vectors.path.with_suffix(".faiss.index")
    build_index(vectors, output, settings)
    return GalleryIndex.open(output)


@pytest.mark.parametrize(
    ("n", "d", "asked", "given"),
    [
        (40_504, 4096, IndexSettings(), "PCAR96,IVF100,PQ16x8"),
        (40_504, 4096, IndexSettings(pca=None), "IVF100,PQ16x8"),
        (3_900, 4096, IndexSettings(), "PCAR96,IVF100,PQ16x8"),
        (2_400, 1280, IndexSettings(), "PCAR96,IVF61,PQ16x8"),
        (1_024, 4096, IndexSettings(), "PCAR96,IVF26,PQ16x8"),
        (1_000_000, 4096, IndexSettings(nlist=None), "PCAR96,IVF4000,PQ16x8"),
        (40_504, 4096, IndexSettings(nlist=None), "PCAR96,IVF805,PQ16x8"),
        (4_000, 4096, IndexSettings(nlist=None), "PCAR96,IVF102,PQ16x8"),
        (4_000, 96, IndexSettings(), "IVF100,PQ16x8"),
        (1_023, 4096, IndexSettings(), "Flat"),
        (1, 4096, IndexSettings(), "Flat"),
        (100, 64, IndexSettings(nbits=4), "IVF2,PQ16x4"),
        (8, 64, IndexSettings(nbits=1), "IVF1,PQ16x1"),
        (5_000, 1000, IndexSettings(pca=None), "IVF100,PQ10x8"),
        (5_000, 4096, IndexSettings(pca=64), "PCAR64,IVF100,PQ16x8"),
        (50, 4096, IndexSettings(factory="HNSW32"), "HNSW32"),
    ],
)
def test_fit_to_gallery_follows_its_rule(n: int, d: int, asked: IndexSettings, given: str) -> None:
    assert describe(fit_to_gallery(asked, n, d)) == given


@pytest.mark.parametrize("settings", [IndexSettings(), IndexSettings(pca=32), IndexSettings(nlist=None)])
def test_default_index_is_squared_l2_with_rows_as_ids(tmp_path: Path, settings: IndexSettings) -> None:
    vectors = vectors_like_real_ones(4_000, 64, tmp_path / "v.npy")
    index = build(vectors, settings)
    inverted = faiss.extract_index_ivf(index._index)
    assert inverted.metric_type == inverted.quantizer.metric_type == faiss.METRIC_L2
    assert (inverted.nlist, inverted.ntotal) == (settings.nlist or 102, 4_000)
    queries = normalise(vectors.array[:100])
    exact = exact_neighbours(queries, vectors.chunks(), 10)
    found = np.array([index.search(query, 10, 100, vectors, 400)[1] for query in queries])
    assert recall_at_k(exact, found) > 0.95
    distances, ids = index.search(queries[7], 10, 100, vectors, 400)
    assert np.allclose(distances, ((queries[7] - normalise(vectors.array[ids])) ** 2).sum(axis=1), atol=1e-5)


def test_build_index_leaves_zero_rows_out_and_the_vectors_alone(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((40, 8), np.float32)
    rows[[3, 17]] = 0
    np.save(tmp_path / "v.npy", rows)
    before = (tmp_path / "v.npy").read_bytes()
    index = build(open_vectors(tmp_path / "v.npy"), IndexSettings())
    _, ids = index.candidates(normalise(rows[:1])[0], 100, 16)
    assert sorted(ids) == [row for row in range(40) if row not in (3, 17)]
    assert (tmp_path / "v.npy").read_bytes() == before


@pytest.mark.parametrize("n", [1, 2, 11])
def test_build_index_of_very_few_photos_works(tmp_path: Path, n: int) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((n, 16), np.float32))
    vectors = open_vectors(tmp_path / "v.npy")
    index = build(vectors, IndexSettings())
    distances, ids = index.search(normalise(vectors.array[:1])[0], 10, 16, vectors, 200)
    assert ids[0] == 0 and len(ids) == min(n, 10) and distances[0] < 1e-5


def test_build_index_checks_itself_against_exact_search(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(4_000, 64, tmp_path / "v.npy")
    check = build(vectors, IndexSettings()).card.self_check
    assert 0.1 < check["recall_approximate"] < check["recall_reranked"] <= 1
    assert check["ms_approximate"] > 0 and check["queries"] == 200
    assert build(vectors, IndexSettings(factory="Flat")).card.self_check["recall_approximate"] == 1


def test_build_index_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(2_000, 64, tmp_path / "v.npy")
    build(vectors, IndexSettings())
    first = (tmp_path / "v.faiss.index").read_bytes()
    build(vectors, IndexSettings())
    assert (tmp_path / "v.faiss.index").read_bytes() == first


@pytest.mark.parametrize("factory", ["HNSW16", "IVF8,Flat", "PCA8,Flat", "OPQ4,IVF8,PQ4x4", "SQ8", "IVF8,PQ4x4,RFlat"])
def test_build_index_of_any_factory_string_keeps_rows_as_ids(tmp_path: Path, factory: str) -> None:
    vectors = vectors_like_real_ones(500, 16, tmp_path / "v.npy")
    index = build(vectors, IndexSettings(factory=factory))
    for row in (0, 77, 499):
        assert index.search(normalise(vectors.array[row][None])[0], 5, 8, vectors, 100)[1][0] == row


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (IndexSettings(factory="NONSENSE"), "Faiss can't train NONSENSE"),
        (IndexSettings(factory="IVF4096,Flat"), "Faiss can't train IVF4096"),
        (IndexSettings(factory="IVF4,PQ7"), "Faiss can't train IVF4,PQ7"),
    ],
)
def test_build_index_with_impossible_settings_says_so(tmp_path: Path, settings: IndexSettings, reason: str) -> None:
    vectors = vectors_like_real_ones(60, 16, tmp_path / "v.npy")
    with pytest.raises(GalleryIndexError, match=reason):
        build(vectors, settings)
    assert not (tmp_path / "v.faiss.index").exists()


def test_build_index_of_nothing_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "zero.npy", np.zeros((5, 8), np.float32))
    np.save(tmp_path / "nan.npy", np.full((5, 8), np.nan, np.float32))
    with pytest.raises(GalleryIndexError, match="only rows of zeros"):
        build(open_vectors(tmp_path / "zero.npy"), IndexSettings())
    with pytest.raises(GalleryIndexError, match="not numbers"):
        build(open_vectors(tmp_path / "nan.npy"), IndexSettings())


def test_build_index_without_faiss_warnings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(vectors_like_real_ones(1_100, 16, tmp_path / "v.npy"), IndexSettings())
    assert capfd.readouterr() == ("", "")


def test_real_vgg16_vectors_reach_their_recall(shared: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.load(shared / "vectors" / "vgg16_fc1_wild_4738.npy").astype(np.float32))
    vectors = open_vectors(tmp_path / "v.npy")
    published = build(vectors, IndexSettings(pca=None)).card
    usual = build(vectors, IndexSettings()).card
    assert usual.self_check["recall_reranked"] >= 0.99
    assert usual.self_check["recall_approximate"] > published.self_check["recall_approximate"] + 0.1
    assert usual["bytes"] < published["bytes"] / 2


def test_build_index_of_float16_vectors_finds_what_float32_finds(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(2_000, 128, tmp_path / "v.npy")
    np.save(tmp_path / "half.npy", vectors.array.astype(np.float16))
    half = open_vectors(tmp_path / "half.npy")
    index = build(half, IndexSettings())
    queries = normalise(vectors.array[:50])
    exact = exact_neighbours(queries, vectors.chunks(), 10)
    found = np.array([index.search(query, 10, index.nprobe, half, 250)[1] for query in queries])
    assert recall_at_k(exact, found) > 0.95
