"""A gallery's files, each damaged in many ways: a sentence of the gallery's own, or the answers of whole files."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_vectors
from msgspec.structs import replace

from similar_images.cards import VectorsCard, read_card, write_card
from similar_images.files import card_path
from similar_images.search.gallery import Gallery, GalleryError
from similar_images.store.index_building import IndexSettings, build_index
from similar_images.store.vectors import open_vectors

VECTORS, INDEX = "v.saved_predictions.npy", "v.faiss.index"
CATALOGUE = "v.catalogue.sqlite"
FILES = [INDEX, f"{INDEX}.json", VECTORS, f"{VECTORS}.json", f"{VECTORS}.txt"]
QUERIES = (0, 7, 200)
TIMES = 300


@pytest.fixture(scope="module", params=[None, "IVF4,PQ4x4", "HNSW8", "Flat"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    rows = np.random.default_rng(0).standard_normal((300, 16), np.float32)
    vectors = open_vectors(write_vectors(folder / VECTORS, rows, img_dir="photos"))
    build_index(vectors, folder / INDEX, IndexSettings(nbits=4, factory=request.param))
    return folder


def answers(folder: Path) -> list[list[tuple[str, float]]]:
    gallery = Gallery.open(folder / INDEX)
    return [[(hit.name, hit.distance) for hit in gallery.search(row, k=5)] for row in QUERIES]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return content with a bit or bytes changed, cut out, doubled or emptied, or without all that follows."""
    start = chance.randrange(len(content))
    end = min(len(content), start + chance.choice([1, 4, 64, 4096]))
    kind = chance.choice(["bits", "bytes", "cut out", "double", "empty", "cut off"])
    if kind == "bits":
        return content[:start] + bytes([content[start] ^ 1 << chance.randrange(8)]) + content[start + 1 :]
    if kind == "bytes":
        return content[:start] + chance.randbytes(end - start) + content[end:]
    new = {"cut out": b"", "double": content[start:end] * 2, "empty": bytes(end - start), "cut off": b""}[kind]
    return content[:start] + new + (b"" if kind == "cut off" else content[end:])


@pytest.mark.parametrize("name", FILES)
def test_open_of_a_damaged_file_is_refused_or_answers_as_before(whole: Path, tmp_path: Path, name: str) -> None:
    expected, chance = answers(whole), random.Random(name)
    shutil.copytree(whole, tmp_path / "copy")
    file = tmp_path / "copy" / name
    content, refused = file.read_bytes(), 0
    for _ in range(TIMES):
        file.write_bytes(damaged(content, chance))
        (tmp_path / "copy" / CATALOGUE).unlink(missing_ok=True)
        try:
            assert answers(tmp_path / "copy") == expected
        except GalleryError as error:
            assert len(str(error)) < 600
            refused += 1
    assert refused > TIMES / 2


@pytest.mark.parametrize("name", [CATALOGUE, f"{CATALOGUE}.json"])
def test_open_with_a_damaged_catalogue_makes_it_again(whole: Path, tmp_path: Path, name: str) -> None:
    expected, chance = answers(whole), random.Random(name)
    shutil.copytree(whole, tmp_path / "copy")
    if name != CATALOGUE:  # vectors that were made before there were catalogues
        vectors = tmp_path / "copy" / VECTORS
        write_card(vectors, replace(read_card(vectors, VectorsCard), catalogue_digest=None))
        (tmp_path / "copy" / CATALOGUE).unlink()
        assert answers(tmp_path / "copy") == expected
    content = (tmp_path / "copy" / name).read_bytes()
    for _ in range(TIMES):
        (tmp_path / "copy" / name).write_bytes(damaged(content, chance))
        assert answers(tmp_path / "copy") == expected


def test_vectors_without_card_that_were_replaced_are_refused_and_touched_ones_are_not(tmp_path: Path) -> None:
    vectors, names = tmp_path / "list.saved_predictions.npy", tmp_path / "list"
    rows = np.random.default_rng(0).standard_normal((300, 16), np.float32)
    np.save(vectors, rows)
    names.write_text("".join(f"{row}.jpg\n" for row in range(300)))
    build_index(open_vectors(vectors), tmp_path / INDEX, IndexSettings())
    expected = answers(tmp_path)
    os.utime(vectors, (1, 1))
    assert answers(tmp_path) == expected
    np.save(vectors, rows[::-1])
    with pytest.raises(GalleryError, match="built from other vectors"):
        answers(tmp_path)
    np.save(vectors, rows)
    assert answers(tmp_path) == expected
    names.write_text("".join(f"{row}.jpg\n" for row in reversed(range(300))))
    assert answers(tmp_path) == expected
    (tmp_path / "list.catalogue.sqlite").unlink()
    with pytest.raises(GalleryError, match="was changed after"):
        answers(tmp_path)


def test_gallery_whose_vectors_are_replaced_while_it_is_open_answers_as_before(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    gallery = Gallery.open(tmp_path / "copy" / INDEX)
    before, chunks = gallery.search(7, k=5), list(gallery.store.chunks())
    write_vectors(tmp_path / "copy" / VECTORS, np.ones((300, 16), np.float32))
    assert gallery.search(7, k=5) == before
    assert np.array_equal(next(iter(gallery.store.chunks()))[1], chunks[0][1])
    assert np.array_equal(
        gallery.measure.units(np.concatenate([chunk for _, chunk in chunks])), gallery.units(np.arange(300))
    )


@pytest.mark.parametrize("text", ["{}", "[]", "null", "", "[" * 10_000, '{"n": 1e999}', '{"n": "many"}', "\x00"])
@pytest.mark.parametrize("name", [INDEX, VECTORS])
def test_open_with_a_card_that_is_none_is_refused(whole: Path, tmp_path: Path, name: str, text: str) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    card_path(tmp_path / "copy" / name).write_text(text)
    with pytest.raises(GalleryError, match=name):
        answers(tmp_path / "copy")


def test_files_that_are_folders_or_unreadable_are_refused(whole: Path, tmp_path: Path) -> None:
    for name in FILES:
        shutil.copytree(whole, tmp_path / name)
        (tmp_path / name / CATALOGUE).unlink(missing_ok=True)
        (tmp_path / name / name).unlink()
        (tmp_path / name / name).mkdir()
        with pytest.raises(GalleryError):
            answers(tmp_path / name)
