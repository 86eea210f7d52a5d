from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors

from similar_images._files import digest
from similar_images.cards import IndexCard, read_card, write_card
from similar_images.gallery import Gallery
from similar_images.index import GalleryIndex, GalleryIndexError
from similar_images.index_building import IndexSettings, build_index
from similar_images.vectors import VectorFile, normalise, open_vectors


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> VectorFile:
    """5,000 seeded vectors of 64 numbers, every seventh row of zeros as of a photo that could not be read."""
    path = tmp_path_factory.mktemp("vectors") / "seeded.saved_predictions.npy"
    values = np.random.default_rng(0).standard_normal((5000, 64), np.float32)
    values[::7] = 0
    return open_vectors(write_vectors(path, values))


@pytest.mark.parametrize("factory", ["", "Flat", "IVF16,Flat", "PQ8", "PCA32,IVF16,PQ8", "HNSW16"])
def test_search_among_finds_k_of_these_and_no_others(factory: str, vectors: VectorFile, tmp_path: Path) -> None:
    settings = IndexSettings(factory=factory) if factory else IndexSettings(pca=32, nlist=16)
    build_index(vectors, tmp_path / "i.faiss.index", settings)
    index = GalleryIndex.open(tmp_path / "i.faiss.index")
    query = normalise(np.ones((1, 64), np.float32))[0]
    readable = vectors.array.any(axis=1)
    for part in (np.arange(5000) % 100 == 1, np.arange(5000) < 2900):
        among = part & readable
        exact = np.flatnonzero(among)[np.argsort(vectors.distances(query, np.flatnonzero(among)), kind="stable")]
        _, found = index.search(query, 20, 1, vectors, 2500, among)
        assert len(set(found)) == 20 and among[found].all()
        assert among.sum() > 2000 or found.tolist() == exact[:20].tolist()
        _, estimated = index.search(query, 20, 1, None, 0, among)
        assert among[estimated].all()
        assert len(set(estimated)) == 20 or factory == "HNSW16", "a graph may not lead to all of few"


def test_search_never_pads(gallery: Gallery) -> None:
    query = normalise(gallery.vectors.array[:1])[0]
    distances, ids = gallery.index.candidates(query, 10_000, 16)
    assert len(ids) == len(distances) == 75 and set(ids) == set(range(75))


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
