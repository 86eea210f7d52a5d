import json
from pathlib import Path

import pytest

from similar_images.gallery import Gallery
from similar_images.index import GalleryIndex, GalleryIndexError
from similar_images.vectors import normalise


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
    card = index_file.with_name(index_file.name + ".json").read_text()
    text.with_name("text.faiss.index.json").write_text(card)
    with pytest.raises(GalleryIndexError, match="not a whole Faiss index"):
        GalleryIndex.open(text)
    text.write_bytes(index_file.read_bytes()[:1000])
    with pytest.raises(GalleryIndexError, match="not a whole Faiss index"):
        GalleryIndex.open(text)
    text.write_bytes(index_file.read_bytes())
    text.with_name("text.faiss.index.json").write_text(json.dumps(json.loads(card) | {"n": 12}))
    with pytest.raises(GalleryIndexError, match="of different runs"):
        GalleryIndex.open(text)
