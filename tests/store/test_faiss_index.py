import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import centred, write_vectors

from similar_images.cards import IndexCard, read_card, write_card
from similar_images.files import digest
from similar_images.search.gallery import Gallery
from similar_images.store.faiss_index import GalleryIndex, GalleryIndexError
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.measure import Comparison
from similar_images.store.vectors import VectorFile, normalise, open_vectors


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> VectorFile:
    """5,000 seeded vectors of dimension 64, every seventh row of zeros as of a photo that could not be read."""
    path = tmp_path_factory.mktemp("vectors") / "seeded.saved_predictions.npy"
    values = np.random.default_rng(0).standard_normal((5000, 64), np.float32)
    values[::7] = 0
    return open_vectors(write_vectors(path, values))


@pytest.mark.parametrize("factory", ["", "Flat", "IVF16,Flat", "PQ8", "PCA32,IVF16,PQ8", "HNSW16"])
def test_search_among_finds_k_of_these_and_no_others(factory: str, vectors: VectorFile, tmp_path: Path) -> None:
    settings = IndexSettings(factory=factory) if factory else IndexSettings(pca=32, nlist=16)
    build_index(vectors, tmp_path / "i.faiss.index", settings)
    index = GalleryIndex.open(tmp_path / "i.faiss.index")
    query = Comparison(index.measure, np.asarray(vectors.array[1]))
    units = normalise(vectors.array) if factory else centred(vectors.array)
    distances = ((units - units[1]) ** 2).sum(axis=1)
    readable = vectors.array.any(axis=1)
    for part in (np.arange(5000) % 100 == 1, np.arange(5000) < 2900):
        among = part & readable
        ((_, found),) = index.search([query], 20, 1, vectors, 2500, among)
        assert len(set(found)) == 20 and among[found].all()
        if among.sum() <= 2000:
            np.testing.assert_allclose(distances[found], np.sort(distances[among])[:20], atol=1e-6)
        ((_, estimated),) = index.search([query], 20, 1, None, 0, among)
        assert among[estimated].all()
        assert len(set(estimated)) == 20 or factory == "HNSW16", "a graph may not lead to all of few"


FACTORIES = [
    "Flat", "IVF16,Flat", "PQ8x4", "PCA32,IVF16,PQ8x4", "IVF16,PQ8x4,RFlat", "PCA32,IVF16,SQ8,Refine(SQfp16)",
    "PCA32,SQ8", "HNSW16", "PCA32,HNSW16", "IVF16,PQ8x4fs", "PQ8x4fs", "LSH", "IVF128_HNSW4,SQ8",
    "IVF64(IVF8,Flat),Flat",
]  # fmt: skip


@pytest.mark.parametrize("factory", FACTORIES)
def test_search_finds_k_or_all_there_are_with_any_index(factory: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((600, 64), np.float32)
    rows[::7] = 0
    some = open_vectors(write_vectors(tmp_path / "v.npy", rows))
    build_index(some, tmp_path / "i.faiss.index", IndexSettings(factory=factory))
    index = GalleryIndex.open(tmp_path / "i.faiss.index")
    readable = rows.any(axis=1)
    query = Comparison(index.measure, rows[1])
    distances = ((normalise(rows) - normalise(rows[1:2])) ** 2).sum(axis=1)
    for among in (None, readable & (np.arange(600) % 3 == 0), np.zeros(600, np.bool_)):
        allowed = readable if among is None else among
        for k in (5, 300, 600):
            for vectors, rerank in ((some, 50), (None, 0)):
                ((_, found),) = index.search([query], k, 1, vectors, rerank, among)
                assert len(set(found)) == len(found) and allowed[found].all()
                enough = len(found) == min(k, allowed.sum())
                assert enough or ("HNSW" in factory and vectors is None), "a graph may not lead to all"
        ((_, found),) = index.search([query], 20, 128, some, 600, among)
        np.testing.assert_allclose(distances[found], np.sort(distances[allowed])[:20], atol=1e-6)


def test_search_finds_copies_that_a_graph_does_not_lead_to(tmp_path: Path) -> None:
    rows = np.repeat(np.random.default_rng(0).standard_normal((2, 16), np.float32), [300, 1], axis=0)
    some = open_vectors(write_vectors(tmp_path / "v.npy", rows))
    build_index(some, tmp_path / "i.faiss.index", IndexSettings(factory="HNSW16"))
    index = GalleryIndex.open(tmp_path / "i.faiss.index")
    query = Comparison(index.measure, rows[0])
    assert len(index.candidates([query], 301, 1)[0][1]) < 301
    assert sorted(index.search([query], 301, 1, some, 250)[0][1]) == list(range(301))


def test_search_in_16_threads_finds_the_same_and_leaves_faiss_its_threads(vectors: VectorFile, tmp_path: Path) -> None:
    build_index(vectors, tmp_path / "i.faiss.index", IndexSettings(factory="IVF16,SQ8"))
    index = GalleryIndex.open(tmp_path / "i.faiss.index")
    queries = [Comparison(index.measure, np.asarray(vector)) for vector in vectors.array[1:7]]

    def search(number: int) -> list[int]:
        return index.search([queries[number % 6]], 20, 4, vectors, 100)[0][1].tolist()

    alone = [search(number) for number in range(6)]
    before = faiss.omp_get_max_threads()
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(search, range(480)))
        assert set(threads.map(lambda _: faiss.omp_get_max_threads(), range(64))) == {before}
    assert found == [alone[number % 6] for number in range(480)]
    assert faiss.omp_get_max_threads() == before


def test_search_never_pads(gallery: Gallery) -> None:
    index = GalleryIndex.open(gallery.path)
    ((_, ids),) = index.candidates([Comparison(gallery.measure, gallery.vector(0))], 10_000, 16)
    assert len(ids) == 75 and set(ids) == set(range(75))


def test_open_of_what_is_no_index_says_so(tmp_path: Path, index_file: Path) -> None:
    with pytest.raises(GalleryIndexError, match=r"build_search_db\.py -i VECTORS"):
        GalleryIndex.open(tmp_path / "missing.faiss.index")
    text = tmp_path / "text.faiss.index"
    text.write_text("no index")
    with pytest.raises(GalleryIndexError, match="has no card"):
        GalleryIndex.open(text)
    card = read_card(index_file, IndexCard)
    write_card(text, card)
    with pytest.raises(GalleryIndexError, match="not the index that its card describes"):
        GalleryIndex.open(text)
    text.write_bytes(index_file.read_bytes()[:1000])
    with pytest.raises(GalleryIndexError, match="not the index that its card describes"):
        GalleryIndex.open(text)
    card.digest = digest(text)  # of an index that another Faiss wrote, say
    write_card(text, card)
    with pytest.raises(GalleryIndexError, match="this Faiss can't read"):
        GalleryIndex.open(text)
    text.write_bytes(index_file.read_bytes())
    card.digest, card.n = digest(text), 12
    write_card(text, card)
    with pytest.raises(GalleryIndexError, match="of different runs"):
        GalleryIndex.open(text)


def test_index_in_a_folder_whose_name_is_no_utf_8_is_written_and_opened(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    rows = np.random.default_rng(0).random((30, 8), np.float32)
    build_index(open_vectors(write_vectors(folder / "v.npy", rows)), folder / "v.faiss.index", IndexSettings())
    assert GalleryIndex.open(folder / "v.faiss.index").card.n == 30
