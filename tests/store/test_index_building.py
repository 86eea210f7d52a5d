import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import ROOT, centred

from similar_images.store import index_building
from similar_images.store.faiss_index import GalleryIndex, GalleryIndexError
from similar_images.store.index_building import IndexSettings, build_index, describe, fit_to_gallery
from similar_images.store.measure import Comparison
from similar_images.store.vectors import VectorFile, open_vectors


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


def query(index: GalleryIndex, vectors: VectorFile, row: int = 0) -> Comparison:
    """Return a query by the vector of a row."""
    return Comparison(index.measure, np.asarray(vectors.array[row], np.float32))


def recall(vectors: VectorFile, found: list[np.ndarray]) -> float:
    """Return which fraction of the 10 nearest by the centred cosine the first rows found."""
    cosines = centred(vectors.array) @ centred(vectors.array)[: len(found)].T
    exact = np.argsort(-cosines, axis=0)[:10].T
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize(
    ("n", "d", "asked", "given"),
    [
        (40_504, 4096, IndexSettings(), "Center,PCA128,IVF100,PQ16x8,Refine(SQfp16)"),
        (40_504, 4096, IndexSettings(pca=None), "IVF100,PQ16x8"),
        (3_900, 4096, IndexSettings(), "Center,PCA128,IVF100,PQ16x8,Refine(SQfp16)"),
        (2_400, 1280, IndexSettings(), "Center,PCA128,IVF61,PQ16x8,Refine(SQfp16)"),
        (1_024, 4096, IndexSettings(), "Center,PCA128,IVF26,PQ16x8,Refine(SQfp16)"),
        (1_000_000, 4096, IndexSettings(nlist=None), "Center,PCA128,IVF4000,PQ16x8,Refine(SQfp16)"),
        (40_504, 4096, IndexSettings(nlist=None), "Center,PCA128,IVF805,PQ16x8,Refine(SQfp16)"),
        (4_000, 4096, IndexSettings(nlist=None), "Center,PCA128,IVF102,PQ16x8,Refine(SQfp16)"),
        (4_000, 96, IndexSettings(), "Center,PCA96,IVF100,PQ16x8,Refine(SQfp16)"),
        (1_023, 4096, IndexSettings(), "Center,Flat"),
        (1, 4096, IndexSettings(), "Center,Flat"),
        (100, 64, IndexSettings(nbits=4), "Center,PCA64,IVF2,PQ16x4,Refine(SQfp16)"),
        (8, 64, IndexSettings(nbits=1), "Center,PCA64,IVF1,PQ16x1,Refine(SQfp16)"),
        (5_000, 1000, IndexSettings(pca=None), "IVF100,PQ16x8"),
        (5_000, 4096, IndexSettings(pca=64), "Center,PCA64,IVF100,PQ16x8,Refine(SQfp16)"),
        (5_000, 4096, IndexSettings(pca=100), "Center,PCA100,IVF100,PQ16x8,Refine(SQfp16)"),
        (5_000, 4096, IndexSettings(pca=10), "Center,PCA10,IVF100,PQ10x8,Refine(SQfp16)"),
        (5_000, 97, IndexSettings(), "Center,PCA97,IVF100,PQ16x8,Refine(SQfp16)"),
        (5_000, 89, IndexSettings(), "Center,PCA89,IVF100,PQ16x8,Refine(SQfp16)"),
        (5_000, 37, IndexSettings(), "Center,PCA37,IVF100,PQ16x8,Refine(SQfp16)"),
        (5_000, 17, IndexSettings(), "Center,PCA17,IVF100,PQ16x8,Refine(SQfp16)"),
        (5_000, 7, IndexSettings(), "Center,PCA7,IVF100,PQ7x8,Refine(SQfp16)"),
        (5_000, 1, IndexSettings(), "Center,PCA1,IVF100,PQ1x8,Refine(SQfp16)"),
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
    found = [index.search([query(index, vectors, row)], 10, 100, vectors, 400)[0][1] for row in range(100)]
    assert recall(vectors, found) > 0.95
    ((distances, ids),) = index.search([query(index, vectors, 7)], 10, 100, vectors, 400)
    units = centred(vectors.array)
    assert np.allclose(distances, ((units[7] - units[ids]) ** 2).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("d", [17, 37, 89, 97])
def test_build_index_of_awkward_dimensions_finds_as_much_as_of_others(tmp_path: Path, d: int) -> None:
    vectors = vectors_like_real_ones(2_000, d, tmp_path / "v.npy")
    index = build(vectors, IndexSettings(nlist=16))
    assert recall(vectors, [index.candidates([query(index, vectors, row)], 10, 16)[0][1] for row in range(50)]) > 0.9


def test_build_index_leaves_zero_rows_out_and_the_vectors_alone(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((40, 8), np.float32)
    rows[[3, 17]] = 0
    np.save(tmp_path / "v.npy", rows)
    before = (tmp_path / "v.npy").read_bytes()
    vectors = open_vectors(tmp_path / "v.npy")
    index = build(vectors, IndexSettings())
    ((_, ids),) = index.candidates([query(index, vectors)], 100, 16)
    assert sorted(ids) == [row for row in range(40) if row not in (3, 17)]
    assert (tmp_path / "v.npy").read_bytes() == before


@pytest.mark.parametrize("n", [1, 2, 11])
def test_build_index_of_very_few_photos_works(tmp_path: Path, n: int) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((n, 16), np.float32))
    vectors = open_vectors(tmp_path / "v.npy")
    index = build(vectors, IndexSettings())
    ((distances, ids),) = index.search([query(index, vectors)], 10, 16, vectors, 200)
    assert ids[0] == 0 and len(ids) == min(n, 10) and distances[0] < 1e-5


def test_build_index_checks_itself_against_exact_search(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(4_000, 64, tmp_path / "v.npy")
    check = build(vectors, IndexSettings()).card.self_check
    assert 0.9 < check["recall_approximate"] <= 1 and 0.9 < check["recall_reranked"] <= 1
    assert check["ms_approximate"] > 0 and check["queries"] == 200
    assert build(vectors, IndexSettings(factory="Flat")).card.self_check["recall_approximate"] == 1


def test_self_check_counts_copies_at_the_same_distance_as_found(tmp_path: Path) -> None:
    rows = np.repeat(np.random.default_rng(0).random((1, 128), np.float32), 1_300, axis=0)
    np.save(tmp_path / "v.npy", rows)
    check = build(open_vectors(tmp_path / "v.npy"), IndexSettings(m=4, nbits=4)).card.self_check
    assert check["recall_reranked"] == check["recall_approximate"] == 1


def test_self_check_asks_with_vectors_that_the_index_was_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_like_real_ones(1_500, 16, tmp_path / "v.npy")
    asked: list[tuple[np.ndarray, np.ndarray]] = []
    check = index_building.self_check
    monkeypatch.setattr(
        index_building, "self_check", lambda *given: asked.append((given[2], given[4])) or check(*given)
    )
    some = build(vectors, IndexSettings(nbits=4, nlist=4, train_size=1_200)).card.self_check
    every = build(vectors, IndexSettings(nbits=4, nlist=4, train_size=1_400)).card.self_check
    exact = build(vectors, IndexSettings(factory="Flat")).card.self_check
    (queries, trained_on), *_ = asked
    assert len(trained_on) == 1_200 and len(queries) == 200 and not set(queries) & set(trained_on)
    assert [check["trained_on_queries"] for check in (some, every, exact)] == [False, True, False]


def test_build_index_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(2_000, 64, tmp_path / "v.npy")
    build(vectors, IndexSettings())
    first = (tmp_path / "v.faiss.index").read_bytes()
    build(vectors, IndexSettings())
    assert (tmp_path / "v.faiss.index").read_bytes() == first


def recorded_training(monkeypatch: pytest.MonkeyPatch, kind: type) -> list[int]:
    """Return a list that gets the number of vectors of each training of a kind of index."""
    trained_on: list[int] = []
    train = kind.train
    monkeypatch.setattr(kind, "train", lambda index, x: trained_on.append(len(x)) or train(index, x))
    return trained_on


@pytest.mark.parametrize(
    ("factory", "kind", "enough"),
    [
        ("IVF512,Flat", faiss.IndexIVFFlat, 39 * 512),
        ("PCA2,IVF512,SQ8", faiss.IndexIVFScalarQuantizer, 39 * 512),
        ("IVF512_HNSW8,SQ8", faiss.IndexIVFScalarQuantizer, 39 * 512),
        ("PQ2x4", faiss.IndexPQ, 64 << 4),
        ("PQ1x9", faiss.IndexPQ, 20_000),
        ("IMI2x6,SQ8", faiss.IndexIVFScalarQuantizer, 64 << 8),
    ],
)
def test_build_index_by_factory_trains_on_enough(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], factory: str, kind: type, enough: int
) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((20_000, 4), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        trained_on = recorded_training(patch, kind)
        build(open_vectors(tmp_path / "v.npy"), IndexSettings(factory=factory))
    assert trained_on == [enough]
    assert "WARNING" not in capfd.readouterr().err, "Faiss has enough to learn from"


def test_build_index_keeps_only_reduced_vectors_in_memory_to_train_on(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(20_000, 256, tmp_path / "v.npy")
    tracemalloc.start()
    build(vectors, IndexSettings(factory="PCA4,IVF512,Flat"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70_000_000


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        ("PQ4x4", faiss.IndexPQ),
        ("PCA8,PQ4x4", faiss.IndexPQ),
        ("IVF8,PQ4x4", faiss.IndexIVFPQ),
    ],
)
def test_build_index_by_factory_trains_no_order_of_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, kind: type
) -> None:
    orders: list[bool] = []
    train = kind.train
    monkeypatch.setattr(kind, "train", lambda index, x: orders.append(index.do_polysemous_training) or train(index, x))
    build(vectors_like_real_ones(500, 16, tmp_path / "v.npy"), IndexSettings(factory=factory))
    assert orders == [False]


@pytest.mark.parametrize("factory", ["HNSW16", "IVF8,Flat", "PCA8,Flat", "OPQ4,IVF8,PQ4x4", "SQ8", "IVF8,PQ4x4,RFlat"])
def test_build_index_of_any_factory_string_keeps_rows_as_ids(tmp_path: Path, factory: str) -> None:
    vectors = vectors_like_real_ones(500, 16, tmp_path / "v.npy")
    index = build(vectors, IndexSettings(factory=factory))
    for row in (0, 77, 499):
        assert index.search([query(index, vectors, row)], 5, 8, vectors, 100)[0][1][0] == row


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (IndexSettings(factory="NONSENSE"), "Faiss can't build NONSENSE from 60 vectors of dimension 16"),
        (IndexSettings(factory="IVF4096,Flat"), "Faiss can't build IVF4096"),
        (IndexSettings(factory="IVF4,PQ7"), "Faiss can't build IVF4,PQ7"),
        (IndexSettings(factory="IVF2,PQ2x4", train_size=3), "Faiss can't build IVF2,PQ2x4"),
        (IndexSettings(factory="Residual2x4,PQ4x4"), "Faiss can't build Residual2x4,PQ4x4"),
    ],
)
def test_build_index_with_impossible_settings_says_so(tmp_path: Path, settings: IndexSettings, reason: str) -> None:
    vectors = vectors_like_real_ones(60, 16, tmp_path / "v.npy")
    with pytest.raises(GalleryIndexError, match=reason):
        build(vectors, settings)
    assert not (tmp_path / "v.faiss.index").exists()


@pytest.mark.parametrize("n", [5, 5_000])
def test_build_index_of_nothing_is_refused(tmp_path: Path, n: int) -> None:
    np.save(tmp_path / "zero.npy", np.zeros((n, 8), np.float32))
    with pytest.raises(GalleryIndexError, match="only rows of zeros"):
        build(open_vectors(tmp_path / "zero.npy"), IndexSettings())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [5, 1_024, 20_000])
def test_build_index_of_what_is_not_finite_names_the_file_before_it_trains(
    tmp_path: Path, n: int, value: float
) -> None:
    rows = np.random.default_rng(0).random((n, 8), np.float32)
    rows[n - 1, 3] = value
    np.save(tmp_path / "v.npy", rows)
    steps: list[str] = []
    with pytest.raises(GalleryIndexError, match=r"v\.npy holds values that are not finite: extract the vectors again"):
        build_index(
            open_vectors(tmp_path / "v.npy"),
            tmp_path / "v.faiss.index",
            IndexSettings(),
            lambda step, done, total: steps.append(step),
        )
    assert "training" not in steps and not (tmp_path / "v.faiss.index").exists()


def test_build_index_of_mostly_zeros_is_fitted_to_the_others(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((2_000, 8), np.float32)
    rows[100:] = 0
    np.save(tmp_path / "v.npy", rows)
    assert build(open_vectors(tmp_path / "v.npy"), IndexSettings()).card.index == "Center,Flat"


def test_build_index_without_faiss_warnings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(vectors_like_real_ones(1_100, 16, tmp_path / "v.npy"), IndexSettings())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("room", [0, 5_000])
def test_build_index_on_a_full_disk_says_so_and_leaves_what_was_there(tmp_path: Path, room: int) -> None:
    vectors = vectors_like_real_ones(500, 16, tmp_path / "v.npy")
    build(vectors, IndexSettings())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code = f"""
import resource
from pathlib import Path
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors
vectors = open_vectors(Path({str(vectors.path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
try:
    build_index(vectors, vectors.path.with_suffix(".faiss.index"), IndexSettings())
except ValueError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.match(r"GalleryIndexError .*v\.faiss\.index can't be written \(.*\): make room", done.stdout), done
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_build_index_into_a_folder_that_is_missing_says_so_at_once(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(50, 16, tmp_path / "v.npy")
    steps: list[str] = []
    with pytest.raises(GalleryIndexError, match="missing is no folder that you may write to"):
        build_index(vectors, tmp_path / "missing" / "i", IndexSettings(), lambda step, done, total: steps.append(step))
    assert steps == []


def test_real_vgg16_vectors_reach_their_recall(shared: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.load(shared / "vectors" / "vgg16_fc1_wild_4738.npy").astype(np.float32))
    vectors = open_vectors(tmp_path / "v.npy")
    published = build(vectors, IndexSettings(pca=None)).card
    index = build(vectors, IndexSettings())
    usual = index.card
    ((_, found),) = index.search([query(index, vectors)], 2_000, index.nprobe, vectors, index.rerank)
    assert len(set(found)) == len(found) == 2_000
    assert usual.self_check["recall_reranked"] >= 0.99
    assert usual.self_check["recall_approximate"] > published.self_check["recall_approximate"] + 0.1
    assert usual.bytes < published.bytes * 0.65


def test_build_index_of_float16_vectors_finds_what_float32_finds(tmp_path: Path) -> None:
    vectors = vectors_like_real_ones(2_000, 128, tmp_path / "v.npy")
    np.save(tmp_path / "half.npy", vectors.array.astype(np.float16))
    half = open_vectors(tmp_path / "half.npy")
    index = build(half, IndexSettings())
    found = [index.search([query(index, half, row)], 10, index.nprobe, half, 250)[0][1] for row in range(50)]
    assert recall(vectors, found) > 0.95


@pytest.mark.parametrize(("n", "d"), [(400, 200), (60, 200), (2_000, 150)])
def test_built_index_weighs_components_by_their_share_of_the_spread(tmp_path: Path, n: int, d: int) -> None:
    vectors = vectors_like_real_ones(n, d, tmp_path / "v.npy")
    measure = build(vectors, IndexSettings()).measure
    variances = np.linalg.svd(centred(vectors.array), compute_uv=False) ** 2 / n
    behind = variances[128:].mean() if n > 128 and d > 128 else variances[min(n - 1, d) - 1]
    w = len(measure.scales)
    assert w == min(128, n - 1, d) or (n == 60 and w == 60)
    np.testing.assert_allclose(measure.scales[:50] ** 2, variances[:50] / behind, rtol=0.05)
